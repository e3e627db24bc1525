package agent

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mask"
)

// Every text that quotes a server masks the values of its env. Only its answers
// are passed on as they are.
func TestSecretsAreMaskedEverywhere(t *testing.T) {
	const secret, line2 = "sk-live-0123456789", "second-line-of-it"
	env := map[string]string{"API_KEY": secret, "PEM": "first\n" + line2, "PORT": "8080"}
	for _, tc := range []struct {
		name   string
		server agenttest.Server
		want   []string
	}{
		{"stderr", agenttest.Echo{ExitAtOnce: 1, Complaint: "port 8080: bad key " + secret + "\nand " + line2}.Serve,
			[]string{"last stderr: port 8080: bad key *** | and ***"}},
		{"stdout", says("key="+secret, strings.Repeat("x", 190)+secret), []string{"key=***", "xxx***"}},
		{"an error", says(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"invalid key ` + secret + `"}}`), []string{"invalid key ***"}},
		{"a wrong id", says(`{"jsonrpc":"2.0","id":"` + secret + `","result":{}}`), []string{"never sent, id \"***\""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var out syncBuffer
				r := newRig(t, agenttest.New(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&out, nil)) })
				r.rt.Handle("a", tc.server)
				r.start("a", func(tpl *fleet.Template) { tpl.Env, tpl.Era = env, fleet.EraLegacy })
				got := r.until("a", fleet.PhaseFailed)
				contains(t, got.Reason, tc.want...)
				logs := strings.Join(r.logs("a"), "\n")
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				for where, text := range map[string]string{"reason": got.Reason, "last lines": strings.Join(got.Log, "\n"), "logs": logs, "worker's log": out.String()} {
					if strings.Contains(text, secret[:8]) || strings.Contains(text, line2) {
						t.Errorf("the %s shows the secret: %s", where, text)
					}
				}
			})
		})
	}
	t.Run("the runtime's words", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			r := newRig(t, agenttest.New(), nil)
			r.rt.Inject(agenttest.Fault{Step: agenttest.StepStart, Err: errors.New("podman run: bad value " + secret)})
			r.start("a", func(tpl *fleet.Template) { tpl.Env = env })
			if got := r.until("a", fleet.PhaseFailed); got.Reason != "podman run: bad value ***" {
				t.Errorf("reason %q", got.Reason)
			}
		})
	})
	t.Run("our own words are not masked", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			var out syncBuffer
			r := newRig(t, agenttest.New(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&out, nil)) })
			r.rt.Handle("a", agenttest.Echo{ExitAtOnce: 3, Complaint: "mode exit: code red"}.Serve)
			r.start("a", func(tpl *fleet.Template) { legacy(tpl); tpl.Env = map[string]string{"MODE": "exit", "COLOUR": "code"} })
			const want = "ended before it was ready: exit code 3; last stderr: mode ***: *** red"
			if got := r.until("a", fleet.PhaseFailed); got.Reason != want {
				t.Errorf("reason %q, want %q", got.Reason, want)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			contains(t, out.String(), want)
		})
	})
	t.Run("an answer is left as it is", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			r := newRig(t, agenttest.New(), nil)
			r.ready("a", func(tpl *fleet.Template) { tpl.Env = env })
			if got := r.call("a", "echo", `{"text":"`+secret+`"}`).text(t); got != secret {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("a line too long to keep", func(t *testing.T) {
		ring := newStderrRing()
		text := strings.Repeat("x", maxLine-10) + secret + strings.Repeat("y", maxLine)
		pumpStderr(strings.NewReader(text+"\n"), ring, mask.New(env), slog.New(slog.DiscardHandler))
		if got := ring.last(1, 1<<20, true); len(got) != 1 || !strings.HasSuffix(got[0], "x***") {
			t.Errorf("kept %q", got[0][maxLine-20:])
		}
	})
}

// syncBuffer is a log that may be written from anywhere.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
