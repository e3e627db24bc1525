//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// The example in docs/UPDATES.md runs as printed, apart from the port: a good version
// is rolled out, and each bad one is noticed as the page says.
func TestUpdatesPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs/UPDATES.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := bytes.Cut(page, []byte("\n## An example\n"))
	example, _, _ = bytes.Cut(example, []byte("\n## "))
	u := newUser(t)
	home := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(home, "bin")); err != nil {
		t.Fatal(err)
	}
	var up *Up
	shell := func(script string) *exec.Cmd {
		if up != nil {
			script = strings.ReplaceAll(script, "http://127.0.0.1:8000", up.Base)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Dir, cmd.Env = home, environ()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if up != nil {
			cmd.Env = append(cmd.Env, "MCPFLEET_ADDRESS="+up.Base)
		}
		return cmd
	}
	wants := [][]string{ // of each block of commands
		{}, {}, {},
		{"echo: READY, 2/2 ready, revision 2", "passed its verify call", "canary with 10% of the calls", "canary with 50% of the calls"},
		{"revision 3 was rolled back to revision 2: verify call 1 to tool echo: expected a result, got the error"},
		{"the rollout of revision 4 is held: callers may break: tool slow: it is gone; waiting for rollout resume", "roll back echo  (revision 2)", "echo: READY, 2/2 ready, revision 2"},
		{"revision 5 was rolled back to revision 2: it serves worse: ", "unchanged echo: revision 5 with this spec was rolled back", "FAILED    revision 5"},
		{`{"result":{"content":[{"type":"text","text":"hello"}]}}`},
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(example, -1)
	if len(blocks) != len(wants) {
		t.Fatalf("the example has %d blocks of commands, want %d", len(blocks), len(wants))
	}
	var calls *exec.Cmd
	for i, block := range blocks {
		script := string(block[1])
		switch {
		case strings.Contains(script, "mcpfleet up "):
			up = u.up(filepath.Join(home, "echo.yaml"), "--runtime", "process", "--http", "127.0.0.1:0")
			harness.Eventually(t, patience, func() error { // a reader is slower
				s, err := up.client.GetServer(t.Context(), "echo", api.ReadOptions{})
				if err == nil && s.Stable != 1 {
					err = fmt.Errorf("revision 1 is not rolled out: %s", s.Reason)
				}
				return err
			})
			continue
		case strings.HasPrefix(script, "while "):
			calls = shell(script)
			if err := calls.Start(); err != nil {
				t.Fatal(err)
			}
			stop := func() { _ = syscall.Kill(-calls.Process.Pid, syscall.SIGKILL); _ = calls.Wait() }
			defer stop()
			continue
		case i == len(blocks)-1:
			_ = syscall.Kill(-calls.Process.Pid, syscall.SIGINT)
			_ = calls.Wait()
		}
		began := time.Now()
		out, err := shell(script).CombinedOutput()
		t.Logf("%safter %s (%v):\n%s", script, since(began), err, out)
		for _, want := range wants[i] {
			if !bytes.Contains(out, []byte(want)) {
				t.Errorf("%sdoes not print %q", script, want)
			}
		}
		if bytes.Contains(out, []byte("replica_lost")) || bytes.Contains(out, []byte(`"error"`)) {
			t.Errorf("a call has failed")
		}
	}
}
