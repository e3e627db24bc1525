//go:build linux

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// The example in docs/UPDATES.md runs as printed, apart from the port: a good version
// is rolled out, and each bad one is noticed as the page says.
func TestUpdatesPage(t *testing.T) {
	t.Parallel()
	p := openPage(t, "docs/UPDATES.md", "An example")
	wants := [][]string{ // of each block of commands
		{}, {}, {},
		{"echo: READY, 2/2 ready, revision 2", "passed its verify call", "canary with 10% of the calls", "canary with 50% of the calls"},
		{"revision 3 was rolled back to revision 2: verify call 1 to tool echo: expected a result, got the error"},
		{"the rollout of revision 4 is held: callers may break: tool slow: it is gone; waiting for rollout resume", "roll back echo  (revision 2)", "echo: READY, 2/2 ready, revision 2"},
		{"revision 5 was rolled back to revision 2: it serves worse: ", "unchanged echo: revision 5 with this spec was rolled back", "FAILED    revision 5"},
		{`"content":[{"type":"text","text":"hello"}],"resultType":"complete"}}`},
	}
	scripts := p.commands(len(wants))
	var calls *exec.Cmd
	for i, script := range scripts {
		switch {
		case p.starts(script):
			harness.Eventually(t, patience, func() error { // a reader is slower
				s, err := p.up.client.GetServer(t.Context(), "echo", api.ReadOptions{})
				if err == nil && s.Stable != 1 {
					err = fmt.Errorf("revision 1 is not rolled out: %s", s.Reason)
				}
				return err
			})
			continue
		case strings.HasPrefix(script, "while "):
			calls = p.shell(script)
			if err := calls.Start(); err != nil {
				t.Fatal(err)
			}
			stop := func() { _ = syscall.Kill(-calls.Process.Pid, syscall.SIGKILL); _ = calls.Wait() }
			defer stop()
			continue
		case i == len(scripts)-1:
			_ = syscall.Kill(-calls.Process.Pid, syscall.SIGINT)
			_ = calls.Wait()
		}
		out := p.run(script)
		for _, want := range wants[i] {
			if !strings.Contains(out, want) {
				t.Errorf("%sdoes not print %q", script, want)
			}
		}
		if strings.Contains(out, "replica_lost") || strings.Contains(out, `"error"`) {
			t.Errorf("a call has failed")
		}
	}
}
