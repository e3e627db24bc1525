//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// newStoragePlane starts three controllers, each on a disk of its own, and a worker.
// The server demo records its calls in the journal. The server idle has no
// replicas; only its spec is written.
func newStoragePlane(t *testing.T, d *disks) (p *Plane, journal string, idle func(value int) string) {
	t.Helper()
	p = NewPlane(t, 3)
	if p.disks = d; d != nil {
		t.Cleanup(d.thawAll) // before the programs are stopped
	}
	journal = filepath.Join(p.dir, "journal")
	idle = func(value int) string {
		return fmt.Sprintf(`{"command": ["none"], "replicas": 0, "max_queued_requests": %d}`, 1000+value)
	}
	p.Fleet(`servers: { demo: {"command": [%q, "-journal", %q], "replicas": 3, "env": {"TOKEN": %q}, "max_queued_requests": 1000}, idle: %s }`,
		program("testserver"), journal, p.token, idle(0))
	p.Start(1)
	return p, journal, idle
}

// load makes calls and writes while something breaks.
type load struct {
	calls   *traffic
	writer  *writer
	journal string
	stop    func() // stops both and waits

	mu sync.Mutex // guards the writer while it writes
}

func (p *Plane) load(journal string, spec func(int) string) *load {
	l := &load{calls: p.steadyCalls(100), writer: p.newWriter("idle", spec), journal: journal}
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			l.mu.Lock()
			l.writer.write()
			l.writer.read()
			l.mu.Unlock()
			<-tick.C
		}
	})
	l.stop = func() {
		cancel()
		writing.Wait()
		l.calls.stop()
	}
	p.t.Cleanup(l.stop)
	return l
}

// alone calls f while the load makes calls and no writes.
func (l *load) alone(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// grow waits for this many more answered calls and acknowledged writes.
func (l *load) grow(t *testing.T, calls, writes int) {
	t.Helper()
	answered := func() int { l.calls.mu.Lock(); defer l.calls.mu.Unlock(); return l.calls.good }
	acknowledged := func() int { l.mu.Lock(); defer l.mu.Unlock(); return l.writer.acknowledged }
	calls, writes = calls+answered(), writes+acknowledged()
	harness.Eventually(t, patience, func() error {
		if c, w := answered(), acknowledged(); c < calls || w < writes {
			return fmt.Errorf("%d calls of %d and %d writes of %d", c, calls, w, writes)
		}
		return nil
	})
}

// check ends the load and fails the test if an answer was wrong.
func (l *load) check(t *testing.T) {
	t.Helper()
	l.stop()
	t.Logf("calls: %s", l.calls)
	t.Logf("writes: %s", l.writer)
	for _, err := range l.calls.failed {
		t.Errorf("a call: %v", err)
	}
	l.calls.check(t, l.journal)
	l.writer.check(t)
	if l.calls.good == 0 || l.writer.acknowledged == 0 {
		t.Error("there was no load")
	}
}

// large returns a spec that needs more space than the log has allocated.
func large(value int) string {
	return fmt.Sprintf(`{"command": ["none", %q], "replicas": 0, "max_queued_requests": %d}`, strings.Repeat("x", 300_000), 1000+value)
}

// awaitUnready waits until a controller reports that it is not ready, with this
// reason.
func (l *life) awaitUnready(t *testing.T, reason string) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		got, err := l.client.Ready(t.Context())
		if err == nil && (got.Ready || !strings.Contains(got.Reason, reason)) {
			err = fmt.Errorf("%s answers %v, %q", l.name, got.Ready, got.Reason)
		}
		return err
	})
}

func (l *life) awaitReady(t *testing.T) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		got, err := l.client.Ready(t.Context())
		if err == nil && !got.Ready {
			err = fmt.Errorf("%s is not ready: %q %+v", l.name, got.Reason, got.Servers)
		}
		return err
	})
}

// names fails the test unless a controller reports the problem of a controller,
// both in its list of controllers and in its list of nodes.
func (l *life) names(t *testing.T, p *Plane, other, problem string) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		list, err := l.client.Controllers(t.Context())
		if err != nil {
			return err
		}
		for _, c := range list.Controllers {
			if bad := string(c.Name) == p.Node(other); bad && !strings.Contains(c.Problem, problem) {
				return fmt.Errorf("%s says of %s: %q", l.name, other, c.Problem)
			} else if !bad && c.Problem != "" {
				return fmt.Errorf("%s says of %s, too: %q", l.name, c.Name, c.Problem)
			}
		}
		nodes, err := l.client.Nodes(t.Context())
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if string(n.Name) == p.Node(other) && (n.State != api.NodeDegraded || !strings.Contains(n.Reason, problem)) {
				return fmt.Errorf("%s shows node %s as %s: %q", l.name, other, n.State, n.Reason)
			}
		}
		return nil
	})
}

// awaitWrite waits until a write through a controller is acknowledged, and returns
// the time since then.
func (l *life) awaitWrite(t *testing.T, spec string, since time.Time) time.Duration {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		_, err := l.client.PutServer(t.Context(), "other", []byte(spec), writeAny)
		return err
	})
	return time.Since(since).Round(10 * time.Millisecond)
}

// The leader's disk hangs. It reports that and gives leadership up, another one
// leads, and all calls succeed. It follows when the disk is back.
func TestLeaderDiskHangs(t *testing.T) {
	d := newDisks(t, extDisk)
	p, journal, idle := newStoragePlane(t, d)
	load := p.load(journal, idle)
	load.grow(t, 100, 5)
	leader, follower := p.Leader(), p.Follower()
	term, err := leader.term(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.freeze(leader.name)
	frozen := time.Now()
	next := p.awaitSuccessor(term, frozen)
	t.Logf("another leads after %s, and writes work after %s", next, follower.awaitWrite(t, idle(1), frozen))
	if next > 10*time.Second {
		t.Errorf("another leads only after %s", next)
	}
	leader.awaitUnready(t, "disk does not answer")
	leader.names(t, p, leader.name, "disk does not answer")
	p.Leader().names(t, p, leader.name, "disk does not answer")
	load.grow(t, 100, 5)
	// It passes requests on to the next leader.
	harness.Eventually(t, patience, func() error {
		got, err := leader.client.GetServer(t.Context(), "idle", readNow)
		if err == nil && got.Name != "idle" {
			err = fmt.Errorf("got %+v", got)
		}
		return err
	})
	d.thaw(leader.name)
	thawed := time.Now()
	leader.awaitReady(t)
	t.Logf("it is ready %s after the disk is back", time.Since(thawed).Round(10*time.Millisecond))
	load.check(t)
	if log := harness.Tail(leader.Log, 10000); !strings.Contains(log, "leadership is given up") {
		t.Error("its log does not say that leadership was given up")
	}
}

// The leader stops answering. When another one leads, reads that wait for the old
// one are sent again at once, and writes end. The calls that were under way through
// the old one are answered when it goes on.
func TestLeaderStops(t *testing.T) {
	p, journal, idle := newStoragePlane(t, nil)
	load := p.load(journal, idle)
	load.grow(t, 100, 5)
	leader, follower := p.Leader(), p.Follower()
	term, err := leader.term(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.retire(leader) // it gets no more calls
	underWay := callsUnderWay(t, leader.client)
	leader.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { leader.Signal(syscall.SIGCONT) })
	stopped := time.Now()
	var waiting sync.WaitGroup
	var reads, writes time.Duration
	waiting.Go(func() {
		if _, err := follower.client.GetServer(t.Context(), "idle", readNow); err != nil {
			t.Errorf("a read: %v", err)
		}
		reads = time.Since(stopped)
	})
	waiting.Go(func() {
		_, err := follower.client.PutServer(t.Context(), "other", []byte(idle(1)), writeAny)
		if !errors.Is(err, fleet.ErrOutcomeUnknown) {
			t.Errorf("a write: %v, want an unknown outcome", err)
		}
		writes = time.Since(stopped)
	})
	next := p.awaitSuccessor(term, stopped)
	waiting.Wait()
	t.Logf("another leads after %s; a read was answered after %s, a write after %s", next,
		reads.Round(10*time.Millisecond), writes.Round(10*time.Millisecond))
	if slowest := max(reads, writes); slowest > next+2*time.Second {
		t.Errorf("requests waited for %s, and another leads since %s", slowest, next)
	}
	load.grow(t, 100, 5)
	if _, err := p.Leader().client.PutServer(t.Context(), "late", []byte(idle(1)), writeAny); err != nil {
		t.Fatal(err)
	}
	// The longer it is stopped, the later the new leader tries again to reach it. After
	// 15 s the worker may close its connection, with the calls that are under way.
	for time.Since(stopped) < 12*time.Second {
		load.grow(t, 100, 5)
	}
	leader.Signal(syscall.SIGCONT)
	underWay.Wait()
	// It answers 503 for everything that was written meanwhile, and is not ready
	// before it knows that.
	harness.Eventually(t, patience, func() error {
		ready, err := leader.client.Ready(t.Context())
		if err != nil {
			return err
		}
		_, err = leader.client.Tools(t.Context(), "late")
		if errors.Is(err, fleet.ErrUnknownServer) {
			t.Errorf("it denies a server that was written while it was stopped; ready: %t, %q", ready.Ready, ready.Reason)
			return nil
		}
		if !ready.Ready {
			return errors.New(ready.Reason)
		}
		return nil
	})
	load.grow(t, 100, 5)
	load.check(t)
}

// A follower's disk hangs while nothing is written. It notices that by itself, and
// still passes requests on.
func TestFollowerDiskHangs(t *testing.T) {
	d := newDisks(t, extDisk)
	p, _, idle := newStoragePlane(t, d)
	leader, bad := p.Leader(), p.Follower()
	calls := p.steadyCalls(100)
	d.freeze(bad.name)
	frozen := time.Now()
	bad.awaitUnready(t, "disk does not answer")
	t.Logf("it is unready after %s", time.Since(frozen).Round(10*time.Millisecond))
	bad.names(t, p, bad.name, "disk does not answer")
	if took := bad.awaitWrite(t, idle(1), time.Now()); took > 5*time.Second {
		t.Errorf("a write through it took %s", took)
	}
	leader.names(t, p, bad.name, "disk does not answer")
	d.thaw(bad.name)
	bad.awaitReady(t)
	calls.stop()
	t.Logf("calls: %s", calls)
	for _, err := range calls.failed {
		t.Errorf("a call: %v", err)
	}
}

// A follower's disk is full. It is not ready, answers 503 for what it may lack, and
// the leader names it. If both followers are full, a write ends with an error.
func TestFollowerDiskFull(t *testing.T) {
	d := newDisks(t, memoryDisk)
	p, journal, idle := newStoragePlane(t, d)
	load := p.load(journal, idle)
	load.grow(t, 100, 5)
	leader, bad := p.Leader(), p.Follower()
	d.fill(bad.name)
	const full = "no space left on device"
	harness.Eventually(t, patience, func() error {
		for i := range 3 {
			if _, err := leader.client.PutServer(t.Context(), "large", []byte(large(i)), writeAny); err != nil {
				return err
			}
		}
		got, err := bad.client.Ready(t.Context())
		if err == nil && got.Ready {
			err = errors.New("the follower is ready")
		}
		return err
	})
	bad.awaitUnready(t, full)
	leader.names(t, p, bad.name, full)
	harness.Eventually(t, patience, func() error {
		_, err := leader.client.PutServer(t.Context(), "late", []byte(idle(0)), writeAny)
		return err
	})
	resp, err := http.Get("http://" + bad.Addr.HTTP + "/late/tools")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a server that the follower lacks: %s, want 503", resp.Status)
	}
	load.stop()

	var other *life
	for _, l := range p.living() {
		if l != leader && l != bad {
			other = l
		}
	}
	d.fill(other.name)
	harness.Eventually(t, patience, func() error { // until its log needs more space
		begun := time.Now()
		_, err := leader.client.PutServer(t.Context(), "large", []byte(large(time.Now().Nanosecond()%1000)), writeAny)
		took := time.Since(begun).Round(10 * time.Millisecond)
		if !errors.Is(err, fleet.ErrOutcomeUnknown) {
			return fmt.Errorf("a write: %w", err)
		}
		t.Logf("a write that no majority stores ended after %s: %v", took, err)
		if !strings.Contains(err.Error(), full) {
			t.Error("it does not say why")
		}
		if took > 12*time.Second {
			t.Errorf("it ended after %s", took)
		}
		return nil
	})
	d.free(bad.name)
	d.free(other.name)
	freed := time.Now()
	bad.awaitReady(t)
	other.awaitReady(t)
	t.Logf("all are ready %s after there is room again", time.Since(freed).Round(10*time.Millisecond))
	load.check(t)
}

// The leader's disk is full. It steps down, and another one leads and writes.
func TestLeaderDiskFull(t *testing.T) {
	d := newDisks(t, memoryDisk)
	p, journal, idle := newStoragePlane(t, d)
	load := p.load(journal, idle)
	load.grow(t, 100, 5)
	leader, follower := p.Leader(), p.Follower()
	term, err := leader.term(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := follower.client.PutServer(t.Context(), "large", []byte(large(0)), writeAny); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, func() error {
		got, err := follower.client.GetServer(t.Context(), "demo", readNow)
		if err == nil && got.Stable != got.Revision {
			err = errors.New("the leader has not written yet that the server is rolled out")
		}
		return err
	})
	const full = "no space left on device"
	load.alone(func() { // or the disk refuses a write of somebody else
		d.fill(leader.name)
		for i := 1; ; i++ { // until its log needs more space
			_, err := follower.client.PutServer(t.Context(), "large", []byte(large(i)), writeAny)
			if err == nil && i < 40 {
				continue
			}
			if !errors.Is(err, fleet.ErrOutcomeUnknown) || !strings.Contains(err.Error(), full) {
				t.Fatalf("write %d: %v, want the cause", i, err)
			}
			break
		}
	})
	t.Logf("another leads after %s", p.awaitSuccessor(term, time.Now()))
	next := p.Leader()
	if next == leader {
		t.Errorf("%s leads again, with a full disk", leader.name)
	}
	for i := range 5 {
		next.awaitWrite(t, large(i), time.Now())
	}
	leader.awaitUnready(t, full)
	next.names(t, p, leader.name, full)
	load.grow(t, 100, 5)
	d.free(leader.name)
	leader.awaitReady(t)
	load.check(t)
}

// The disk of a single controller is full. Every answer to a write says so, not
// only the first. Calls work, and writes work again when there is space.
func TestOnlyDiskFull(t *testing.T) {
	d := newDisks(t, memoryDisk)
	p := NewPlane(t, 1)
	p.disks = d
	p.Fleet(`servers: { demo: {"command": [%q], "replicas": 1, "env": {"TOKEN": %q}} }`, program("testserver"), p.token)
	p.Start(1)
	only := p.Leader()
	d.fill(only.name)
	const full = "no space left on device"
	refused := 0
	for i := 0; refused < 4; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		_, err := only.client.PutServer(ctx, "large", []byte(large(i)), writeAny)
		cancel()
		switch {
		case err == nil && i < 40 && refused == 0:
			continue // the log had space
		case err == nil || !strings.Contains(err.Error(), full):
			t.Fatalf("write %d: %v, want the cause", i, err)
		}
		t.Logf("write %d: %v", i, err)
		refused++
	}
	only.awaitUnready(t, full)
	if _, err := only.client.Call(t.Context(), "demo", api.CallRequest{ToolName: "echo", ToolArgs: []byte(`{"text":"x"}`)}); err != nil {
		t.Errorf("a call: %v", err)
	}
	d.free(only.name)
	harness.Eventually(t, patience, func() error {
		_, err := only.client.PutServer(t.Context(), "large", []byte(large(0)), writeAny)
		return err
	})
	only.awaitReady(t)
	if !only.Running() {
		t.Error("the controller has ended")
	}
}
