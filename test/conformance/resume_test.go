//go:build linux

package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

// An official client of the legacy era gets the results of its calls, and all of their
// progress, although every controller is killed meanwhile. No call runs twice.
func TestResumption(t *testing.T) {
	const calls, seconds = 6, 16
	s := install(t)
	into := tsclient.Scripts(t, s.dir, sub(t, scripts, "clients"))
	notes := t.TempDir()
	f := startFleetOf(t, 3)
	for name := range fixtures {
		spec := s.spec(name)
		spec["env"] = map[string]string{"FIXTURE_NOTES": notes}
		f.deploy(t, name, spec)
	}
	for name := range fixtures {
		t.Run(name+" server", func(t *testing.T) {
			_ = os.Remove(filepath.Join(notes, "notes"))
			cmd := exec.CommandContext(t.Context(), s.node, filepath.Join(into, "resume.mjs"), f.front+"/"+name+"/mcp", fmt.Sprint(calls), fmt.Sprint(seconds))
			cmd.Stderr, cmd.WaitDelay = os.Stderr, time.Second
			stdout, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait() //nolint:errcheck // its output says whether it worked
			lines := bufio.NewScanner(stdout)
			lines.Buffer(nil, 1<<20)
			if !lines.Scan() || lines.Text() != "all progress" {
				t.Fatalf("the calls did not begin: %q", lines.Text())
			}
			for i := range f.controllers {
				f.restart(t, &f.controllers[i], "controller")
				f.awaitReady(t, i)
			}
			if !lines.Scan() {
				t.Fatal("there are no results")
			}
			var results []struct {
				Text string
				Seen []float64
			}
			if err := json.Unmarshal(lines.Bytes(), &results); err != nil {
				t.Fatalf("%v in %s", err, lines.Text())
			}
			for i, r := range results {
				if want := fmt.Sprintf("done resume-%d", i); r.Text != want {
					t.Errorf("got %q, want %q", r.Text, want)
				}
				if len(r.Seen) != 10*seconds || !slices.IsSorted(r.Seen) {
					t.Errorf("call %d: progress %v", i, r.Seen)
				}
			}
			b, err := os.ReadFile(filepath.Join(notes, "notes"))
			if err != nil {
				t.Fatal(err)
			}
			if began, done := strings.Count(string(b), "began "), strings.Count(string(b), "done "); began != calls || done != calls {
				t.Errorf("%d calls began and %d were done, want %d:\n%s", began, done, calls, b)
			}
		})
	}
}

// awaitReady waits until a controller that was started knows the fleet.
func (f *testFleet) awaitReady(t *testing.T, controller int) {
	t.Helper()
	client := f.clientOf(t, controller)
	harness.Eventually(t, harness.Patience, func() error {
		ready, err := client.Ready(t.Context())
		if err == nil && !ready.Ready {
			err = fmt.Errorf("%s is not ready: %s", f.controllers[controller].Name, ready.Reason)
		}
		return err
	})
}
