package podman

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// Podman's clients, monitors or containers are killed while containers start.
// Nothing may be left, whatever Start returns.

func TestKilledDuringStart(t *testing.T) {
	r := open(t, nil)
	before := hostOf(t, r)
	t.Run("victim", func(t *testing.T) {
		for _, victim := range []struct {
			name        string
			first, step time.Duration
			find        func(name string) []proctab.ID
		}{
			{"client", 0, 10 * time.Millisecond, clientsOf},
			{"client again", 5 * time.Millisecond, 10 * time.Millisecond, clientsOf}, // the moments between
			{"conmon", 0, 6 * time.Millisecond, monitorsOf},
			{"container", 0, 6 * time.Millisecond, childrenOfMonitors},
		} {
			t.Run(victim.name, func(t *testing.T) {
				t.Parallel()
				var killed, started int
				for at := victim.first; at < 300*time.Millisecond; at += victim.step {
					l := launchOf(t, r, "deaf")
					name := containerName(l)
					var hit bool
					ended := make(chan struct{})
					var kill sync.WaitGroup
					kill.Go(func() { hit = killAt(at, ended, func() []proctab.ID { return victim.find(name) }) })
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					begin := time.Now()
					p, err := r.Start(ctx, l)
					cancel()
					close(ended)
					kill.Wait()
					if took := time.Since(begin); took > 2*time.Second {
						t.Logf("killed after %v: Start took %v: %v", at, took, err)
					}
					if err == nil {
						started++
						release(t, p.(*container))
					} else if ctx.Err() == context.DeadlineExceeded {
						t.Errorf("killed after %v: Start hung: %v", at, err)
					}
					if hit {
						killed++
					}
				}
				t.Logf("%d starts struck, %d containers started all the same", killed, started)
				if killed == 0 {
					t.Error("nothing was ever killed: the test shows nothing")
				}
			})
		}
	})
	if err := r.Close(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	before.mustReturn(t, r)
}

// killAt kills the processes that find returns, a while after it first returned
// any. It returns false if ended was closed before that.
func killAt(at time.Duration, ended <-chan struct{}, find func() []proctab.ID) bool {
	for len(find()) == 0 {
		select {
		case <-ended:
			return false
		case <-time.After(2 * time.Millisecond):
		}
	}
	time.Sleep(at) // the test varies the moment of the kill
	ids := find()
	for _, id := range ids {
		proctab.Signal(id, syscall.SIGKILL)
	}
	return len(ids) > 0
}

func clientsOf(name string) []proctab.ID {
	return processes(func(words []string) bool {
		return filepath.Base(words[0]) == "podman" && slices.Contains(words, "--name="+name)
	})
}

func monitorsOf(name string) []proctab.ID {
	return processes(func(words []string) bool {
		n, _ := conmonOf(words)
		return n == name
	})
}

func childrenOfMonitors(name string) []proctab.ID {
	roots := make(map[int]bool)
	monitors := monitorsOf(name)
	for _, id := range monitors {
		roots[id.PID] = true
	}
	return slices.DeleteFunc(proctab.Family(proctab.Table(), roots), func(id proctab.ID) bool { return slices.Contains(monitors, id) })
}

func processes(match func(words []string) bool) []proctab.ID {
	var ids []proctab.ID
	for _, p := range proctab.Table() {
		if w := proctab.Cmdline(p.PID); len(w) > 0 && match(w) {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// host is everything on this host that names one node, or that has no name.
// Other tests use the same podman at the same time.
type host struct {
	containers []string // of podman's database and storage
	processes  []string
	states     []string // of the runtimes: of the node, or of nobody
	cgroups    []string // of containers that podman does not know
	files      []string
}

func hostOf(t *testing.T, r *Runtime) host {
	t.Helper()
	var h host
	out, err := r.query(t.Context(), "ps", "--all", "--external", "--format=json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		ID    string `json:"Id"`
		Names []string
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, row := range rows {
		known[row.ID] = true
		if strings.Contains(strings.Join(row.Names, " "), string(r.node)) {
			h.containers = append(h.containers, row.Names...)
		}
	}
	name, err := image()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proctab.Table() {
		words := strings.Join(proctab.Cmdline(p.PID), " ")
		if p.PID != os.Getpid() && (strings.Contains(words, string(r.node)) || strings.Contains(words, name) || strings.HasPrefix(words, "/server")) {
			h.processes = append(h.processes, words)
		}
	}
	for _, root := range stateRoots() {
		entries, _ := os.ReadDir(root)
		for _, e := range entries {
			b, err := os.ReadFile(filepath.Join(root, e.Name(), "state.json"))
			if strings.Contains(string(b), string(r.node)) || err != nil && !known[e.Name()] {
				h.states = append(h.states, e.Name())
			}
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/libpod_parent/libpod-*")
	for _, g := range groups {
		if !known[strings.TrimPrefix(filepath.Base(g), "libpod-")] {
			h.cgroups = append(h.cgroups, g)
		}
	}
	for _, dir := range []string{r.recordsDir(), r.tmpDir()} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			h.files = append(h.files, e.Name())
		}
	}
	return h
}

// mustReturn waits until the host is as it was before. Starts of other tests come
// and go.
func (h host) mustReturn(t *testing.T, r *Runtime) {
	t.Helper()
	ctx := within(t, 15*time.Second)
	for {
		now := hostOf(t, r)
		var left []string
		for _, c := range []struct {
			what         string
			before, now_ []string
		}{
			{"container", h.containers, now.containers}, {"process", h.processes, now.processes}, {"runtime state", h.states, now.states},
			{"cgroup", h.cgroups, now.cgroups}, {"file", h.files, now.files},
		} {
			for _, s := range c.now_ {
				if !slices.Contains(c.before, s) {
					left = append(left, c.what+" "+s)
				}
			}
		}
		if len(left) == 0 {
			return
		}
		if proctab.Sleep(ctx, 200*time.Millisecond) != nil {
			t.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}
}

// doomed is the worker that TestSweepAfterKilledWorker kills. It is the test
// binary itself, which opens a runtime, starts a container for each line of its
// stdin, and reports it.
func doomed(dir, node, image string) error {
	r, err := Open(context.Background(), Config{Node: fleet.NodeID(node), DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	fmt.Println("open")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		go r.Start(context.Background(), fleet.Launch{
			Cluster: "c1", Node: r.node, Replica: fleet.NewReplicaID("srv", 1), Server: "srv", Revision: 1,
			Template: &fleet.Template{Image: image, PullPolicy: fleet.PullNever, Args: []string{"deaf"}, Network: "none"},
			Pulling:  func(string) {},
		})
	}
	return nil
}

func TestSweepAfterKilledWorker(t *testing.T) {
	r := open(t, nil)
	before := hostOf(t, r)
	name, err := image()
	if err != nil {
		t.Fatal(err)
	}
	living := nextLife(t, r, t.TempDir()) // another worker of the same name
	if err := os.MkdirAll(living.recordsDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	own := startOf(t, living, launchOf(t, r, "deaf"))
	for i := range 50 {
		at := time.Duration(i) * 12 * time.Millisecond
		dir := t.TempDir()
		worker := exec.Command(os.Args[0])
		worker.Env = append(os.Environ(), "DOOMED="+dir, "DOOMED_NODE="+string(r.node), "DOOMED_IMAGE="+name)
		worker.Stderr = os.Stderr
		stdin, err := worker.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := worker.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
			t.Fatalf("worker: %q, %v", line, err)
		}
		if _, err := fmt.Fprint(stdin, "\n\n"); err != nil { // two containers
			t.Fatal(err)
		}
		time.Sleep(at) // the test varies the moment of the kill
		worker.Process.Kill()
		worker.Wait()
		stdin.Close()
		if i%2 == 1 {
			// With the same data directory, as after a crash. Without it,
			// another worker of the node finds the containers by labels and
			// markers alone.
			sweep(t, nextLife(t, r, dir))
		} else {
			sweep(t, r)
		}
		if !own.main.Alive() {
			t.Fatal("the sweep removed a container of a living worker")
		}
	}
	release(t, own)
	before.mustReturn(t, r)
}

// nextLife returns the runtime of the node's next life with that data directory.
// It uses podman as r does, without a probe.
func nextLife(t *testing.T, r *Runtime, dataDir string) *Runtime {
	t.Helper()
	owner, err := proctab.NewOwner(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	next := &Runtime{
		node: r.node, owner: owner, log: r.log, bin: r.bin, dir: filepath.Join(dataDir, "podman"), environ: r.environ, mode: r.mode,
		starts: make(slots, 4), queries: make(slots, 4),
	}
	next.pulls = newPulls(next)
	return next
}

func sweep(t *testing.T, r *Runtime) {
	t.Helper()
	removed, err := r.Sweep(within(t, time.Minute))
	t.Logf("removed %q", removed)
	if err != nil {
		t.Error(err)
	}
}

func TestSweepFindsWhatPodmanForgot(t *testing.T) {
	r := open(t, nil)
	before := hostOf(t, r)
	c := startOf(t, r, launchOf(t, r, "deaf"))
	waitUp(t, c)
	// A killed start leaves everything but a row in podman's database and a record.
	later := nextLife(t, r, filepath.Dir(r.dir))
	if err := os.RemoveAll(c.rec.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.tmpDir(), "pull-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// Conmon and its child die before they can report to podman, and the row goes.
	for _, id := range append([]proctab.ID{c.monitor}, c.main) {
		if err := proctab.Signal(id, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.podmanRemove(t.Context(), c.rec.name); err != nil {
		t.Log(err) // podman may not have noticed yet
	}
	if len(stateDirs(c.id)) == 0 {
		t.Log("podman removed the runtime's state itself")
	}
	sweep(t, later)
	before.mustReturn(t, r)
}
