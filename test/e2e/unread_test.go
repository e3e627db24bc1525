//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// unread makes a program's stderr a full pipe without a reader. It returns the end
// to read from.
func unread(t testing.TB, p *harness.Process) *os.File {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	size, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write.Write([]byte(strings.Repeat("x", size-1) + "\n")); err != nil {
		t.Fatal(err)
	}
	p.Cmd.Stderr.(*os.File).Close()
	p.Cmd.Stderr = write
	return read
}

// Nothing waits for a log without a reader: no call, no start or stop of a replica,
// no election, and no end of a program.
func TestLogsThatNobodyReads(t *testing.T) {
	const calls, callers = 10_000, 20
	p := NewPlane(t, 3)
	var mu sync.Mutex
	pipes := map[*harness.Process]*os.File{}
	p.prepare = func(one *harness.Process) {
		mu.Lock()
		defer mu.Unlock()
		pipes[one] = unread(t, one)
		one.Cmd.Env = append(one.Cmd.Env, "MCPFLEET_LOG_LEVEL=debug")
	}
	journal := filepath.Join(p.dir, "journal")
	p.Fleet(`servers: {demo: {command: [%q, -chatty, -journal, %q], replicas: 4, env: {TOKEN: %q}}, broken: {command: [%q, -exit, "3"], env: {TOKEN: %q}}}`,
		program("testserver"), journal, p.token, program("testserver"), p.token)
	p.StartNew("c1")
	p.StartNew("c2")
	p.StartNew("c3")
	p.Leader()
	for _, name := range []string{"w1", "w2", "w3"} {
		p.StartWorker(name)
	}
	p.mustCLI("", "apply", "-f", p.file)
	demoHas := func(n int) {
		t.Helper()
		harness.Eventually(t, patience, func() error {
			if ready := len(p.ReplicasOf("demo", "READY")); ready != n {
				return fmt.Errorf("%d replicas are READY, want %d", ready, n)
			}
			return nil
		})
	}
	demoHas(4)

	begin := time.Now()
	var next atomic.Int64
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for n := next.Add(1); n <= calls; n = next.Add(1) {
				text := fmt.Sprintf("call %d", n)
				raw, err := p.Call(t.Context(), "demo", api.CallRequest{ToolName: "echo", ToolArgs: fmt.Appendf(nil, `{"text":%q}`, text)})
				if err == nil {
					var got string
					if got, err = textOf(raw); err == nil && got != text {
						err = fmt.Errorf("answer %q", got)
					}
				}
				if err != nil {
					t.Errorf("%s: %v", text, err)
					return
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d calls in %s", calls, since(begin))
	for n := range 500 { // failing calls are logged, too
		if _, err := p.Text("demo", "nothing", fmt.Sprintf(`{"n":%d}`, n)); err == nil {
			t.Fatal("a tool that does not exist answers")
		}
	}

	p.mustCLI("", "scale", "demo", "6")
	demoHas(6)
	p.mustCLI("", "scale", "demo", "2")
	demoHas(2)

	leader := p.Leader()
	term, err := leader.term(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a new leader after %s", p.awaitSuccessor(term, p.Kill(leader.name)))
	p.mustCLI("", "scale", "demo", "5")
	demoHas(5)
	p.MustText("demo", "echo", `{"text":"still here"}`)

	// The reader is back and gets the buffered lines, then new ones.
	last := p.Leader()
	for _, one := range []*harness.Process{p.Workers["w1"], last.Process} {
		from := map[string]string{"worker": "replica ordered", "controller": "controller is up"}[one.Name]
		mu.Lock()
		pipe := pipes[one]
		mu.Unlock()
		got := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(pipe) // until the program ends
			got <- string(b)
		}()
		if one == last.Process {
			p.retire(last)
		}
		one.Stop()
		select {
		case text := <-got:
			if !strings.Contains(text, from) {
				t.Errorf("the log of %s says nothing of %q: %.2000s", one.Name, from, text)
			}
		case <-time.After(patience):
			t.Errorf("the log of %s has no end", one.Name)
		}
	}
}
