package envflag

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestApply(t *testing.T) {
	tests := []struct {
		name    string
		args    []string
		env     map[string]string
		want    string // of --data-dir
		wait    time.Duration
		wantErr string
	}{
		{name: "nothing is set", want: "default", wait: time.Second},
		{name: "from the environment", env: map[string]string{"MCPFLEET_DATA_DIR": "/e", "MCPFLEET_WAIT": "3s"}, want: "/e", wait: 3 * time.Second},
		{name: "the command line takes precedence", args: []string{"--data-dir=/c"}, env: map[string]string{"MCPFLEET_DATA_DIR": "/e"}, want: "/c", wait: time.Second},
		{name: "also with the default value", args: []string{"--data-dir=default"}, env: map[string]string{"MCPFLEET_DATA_DIR": "/e"}, want: "default", wait: time.Second},
		{name: "an empty variable is not set", env: map[string]string{"MCPFLEET_WAIT": ""}, want: "default", wait: time.Second},
		{name: "an invalid value", env: map[string]string{"MCPFLEET_WAIT": "soon"}, wantErr: `environment variable MCPFLEET_WAIT: "soon" is not valid for --wait (duration)`},
		{name: "several invalid values", env: map[string]string{"MCPFLEET_WAIT": "soon", "MCPFLEET_COUNT": "few"},
			wantErr: "environment variable MCPFLEET_COUNT: \"few\" is not valid for --count (int)\nenvironment variable MCPFLEET_WAIT: \"soon\" is not valid for --wait (duration)"},
		{name: "help has no variable", env: map[string]string{"MCPFLEET_HELP": "true"}, want: "default", wait: time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			dir := flags.String("data-dir", "default", "")
			wait := flags.Duration("wait", time.Second, "")
			flags.Int("count", 0, "")
			help := flags.Bool("help", false, "")
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			err := Apply(flags, func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok })
			if tt.wantErr != "" {
				if err == nil || err.Error() != tt.wantErr {
					t.Fatalf("got error %v, want %s", err, tt.wantErr)
				}
				return
			}
			if err != nil || *dir != tt.want || *wait != tt.wait || *help {
				t.Errorf("got %q, %v, help %v, error %v; want %q, %v", *dir, *wait, *help, err, tt.want, tt.wait)
			}
		})
	}
}

func TestDocument(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("data-dir", "", "where data is kept")
	Document(flags)
	if got := flags.FlagUsages(); !strings.Contains(got, "where data is kept [$MCPFLEET_DATA_DIR]") {
		t.Errorf("got %s", got)
	}
}
