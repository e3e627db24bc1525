//go:build linux

package conformance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

const workers = 3

// testFleet is a fleet that runs until the end of a test.
type testFleet struct {
	*api.Client                    // of the first controller
	controllers []*harness.Process // nil if the fleet ran before the test
	workers     []*harness.Process
	bin, dir    string
	expect      int    // how many controllers there are
	front       string // address of all controllers: each request goes to the next one
}

// flagsOf are the flags of programs, beside those for addresses.
var flagsOf = map[string][]string{
	"controller": {"--shutdown-delay", "0s", "--legacy-sse"},
	"worker":     {"--runtime", "process"},
}

// startFleet starts two controllers and three workers.
func startFleet(t *testing.T) *testFleet {
	t.Helper()
	return startFleetOf(t, 2)
}

// startFleetOf starts controllers and workers, which run plain processes, and waits
// until all have joined.
func startFleetOf(t *testing.T, controllers int) *testFleet {
	t.Helper()
	f := &testFleet{bin: t.TempDir(), dir: t.TempDir(), expect: controllers}
	if err := harness.Build(f.bin, "./cmd/controller", "./cmd/worker", "./cmd/mcpfleet", "./cmd/demo-server"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		harness.StopAll(f.controllers...)
		harness.StopAll(f.workers...)
		if t.Failed() {
			harness.ShowLogs(t, f.dir, 50)
		}
	})
	for i := range controllers {
		args := append(flagsOf["controller"], "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--raft", "127.0.0.1:0")
		f.controllers = append(f.controllers, f.start(t, "controller", fmt.Sprintf("c%d", i+1), args...))
	}
	for i := range workers {
		f.workers = append(f.workers, f.start(t, "worker", fmt.Sprintf("w%d", i+1), flagsOf["worker"]...))
	}
	f.Client = f.clientOf(t, 0)
	harness.Eventually(t, harness.Patience, func() error {
		nodes, err := f.Nodes(t.Context())
		ready := 0
		for _, n := range nodes {
			if n.Role == fleet.RoleWorker && n.State == "READY" {
				ready++
			}
		}
		if err == nil && ready != workers {
			err = fmt.Errorf("%d workers are READY, want %d", ready, workers)
		}
		return err
	})
	addresses := make([]string, len(f.controllers)) // they have the same ones after a restart
	for i, c := range f.controllers {
		addresses[i] = c.Addr.HTTP
	}
	f.front = serveBalancer(t, addresses)
	return f
}

// clientOf returns a client of one controller.
func (f *testFleet) clientOf(t *testing.T, controller int) *api.Client {
	t.Helper()
	client, err := api.NewClient(f.controllers[controller].Addr.HTTP, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// start starts a program that joins all that run.
func (f *testFleet) start(t *testing.T, program, name string, args ...string) *harness.Process {
	t.Helper()
	args = append(slices.Clone(args), "--name", name, "--data-dir", filepath.Join(f.dir, name))
	for _, p := range slices.Concat(f.controllers, f.workers) {
		args = append(args, "--join", p.Addr.Gossip)
	}
	if program == "controller" {
		args = append(args, "--bootstrap-expect", fmt.Sprint(f.expect))
	}
	p := harness.Command(t, name, filepath.Join(f.bin, program), filepath.Join(f.dir, name+".log"), args...)
	p.Start()
	return p
}

// localhost returns an address with the host name that the suite wants.
func localhost(addr string) string { return strings.Replace(addr, "127.0.0.1", "localhost", 1) }

// deploy deploys a server and waits until all of it is ready.
func (f *testFleet) deploy(t *testing.T, name string, spec map[string]any) {
	t.Helper()
	b, err := json.Marshal(spec)
	if err == nil {
		_, err = f.PutServer(t.Context(), fleet.ServerName(name), b, api.WriteOptions{})
	}
	if err != nil {
		t.Fatalf("deploy %s: %v", name, err)
	}
	harness.Eventually(t, harness.Patience, func() error {
		s, err := f.GetServer(t.Context(), fleet.ServerName(name), api.ReadOptions{})
		if err == nil && s.State != fleet.StateReady {
			err = fmt.Errorf("%s is %s: %s", name, s.State, s.Reason)
		}
		return err
	})
}

// direct starts a fixture over HTTP until the end of the test, and returns its URL.
func (s suite) direct(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command(s.node, filepath.Join(s.fixture, script), "--http", "0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := make(chan string, 1)
	go func() { // ends with the fixture
		r := bufio.NewScanner(stdout)
		for r.Scan() {
			select {
			case lines <- r.Text():
			default:
			}
		}
		close(lines)
	}()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatalf("%s did not start", script)
		}
		return line
	case <-time.After(harness.Patience):
		t.Fatalf("%s printed no address", script)
		return ""
	}
}
