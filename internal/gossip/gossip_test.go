package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// startRing runs a worker's ring on loopback until the test ends. The returned
// stop leaves in order and waits.
func startRing(t *testing.T, node, life string, change func(*Config)) (*Ring, func()) {
	t.Helper()
	cfg := Config{
		Member: fleet.Member{Node: fleet.NodeID(node), Life: fleet.LifeID(life), Role: fleet.RoleWorker,
			GRPC: "127.0.0.1:1" + life, PID: 42},
		Bind: "127.0.0.1:0",
		Log:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", node),
	}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run of %s/%s: %v", node, life, err)
		}
	}
	t.Cleanup(stop)
	return r, stop
}

func joining(addrs ...string) func(*Config) {
	return func(c *Config) { c.Join = addrs }
}

// await waits until the ring's members are the wanted node/life names, in order.
func await(t *testing.T, r *Ring, within time.Duration, want ...string) {
	t.Helper()
	var got []string
	deadline := time.After(within)
	for {
		got = got[:0]
		for _, m := range r.Members() {
			got = append(got, ringName(m))
		}
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-r.Changed():
		case <-deadline:
			t.Fatalf("members seen by %s are %v, want %v", r.self, got, want)
		}
	}
}

func TestJoinKillReturn(t *testing.T) {
	a, _ := startRing(t, "a", "1", nil)
	b, _ := startRing(t, "b", "1", joining(a.Addr()))
	c, _ := startRing(t, "c", "1", joining(a.Addr()))
	for _, r := range []*Ring{a, b, c} {
		await(t, r, 10*time.Second, "a/1", "b/1", "c/1")
	}
	got := a.Members()[1]
	if got.Started.IsZero() {
		t.Error("b's start time did not arrive")
	}
	got.Started = time.Time{}
	want := fleet.Member{Node: "b", Life: "1", Role: fleet.RoleWorker, GRPC: "127.0.0.1:11", Gossip: b.Addr(), PID: 42}
	if got != want {
		t.Errorf("b as a sees it is %+v, want %+v", got, want)
	}

	killed := time.Now()
	c.Close()
	await(t, a, 20*time.Second, "a/1", "b/1")
	t.Logf("a missed c after %v", time.Since(killed).Round(10*time.Millisecond))
	await(t, b, 20*time.Second, "a/1", "b/1")

	startRing(t, "c", "2", joining(b.Addr()))
	await(t, a, 10*time.Second, "a/1", "b/1", "c/2")
	await(t, b, 10*time.Second, "a/1", "b/1", "c/2")
}

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func TestLeave(t *testing.T) {
	var told lines
	a, _ := startRing(t, "a", "1", func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&told, nil)) })
	b, stopB := startRing(t, "b", "1", joining(a.Addr()))
	await(t, a, 10*time.Second, "a/1", "b/1")
	await(t, b, 10*time.Second, "a/1", "b/1")
	stopB()
	// This is sooner than a probe and a suspicion could find out.
	await(t, a, time.Second, "a/1")
	if log := told.String(); strings.Contains(log, "msg=joined") {
		t.Errorf("a joined b while that left:\n%s", log)
	}
}

// A join that gets no answer does not delay the stop.
func TestStopWhileJoining(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, stop := startRing(t, "a", "1", joining(l.Addr().String()))
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	stop()
	if took := time.Since(began); took > streamTimeout/2 {
		t.Errorf("stopped after %v", took)
	}
}

// A member that has just gone is not joined: it may be ending.
func TestGoneIsNotJoinedAtOnce(t *testing.T) {
	began := time.Now()
	const addr = "127.0.0.1:9"
	member := func(life string) *memberlist.Node {
		meta, err := encodeMeta(fleet.Member{Node: "b", Life: fleet.LifeID(life), Role: fleet.RoleWorker})
		if err != nil {
			t.Fatal(err)
		}
		return &memberlist.Node{Name: "b/" + life, Addr: net.IPv4(127, 0, 0, 1), Port: 9, Meta: meta}
	}
	r, err := New(Config{
		Member: fleet.Member{Node: "a", Life: "1", Role: fleet.RoleController},
		Bind:   "127.0.0.1:0", Join: []string{addr}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	see := func(when string, now time.Time, want ...string) {
		t.Helper()
		if got := r.missing(t.Context(), now); !slices.Equal(got, want) {
			t.Errorf("%s, to be joined are %v, want %v", when, got, want)
		}
	}
	see("before it was ever there", began, addr)
	e := (*events)(r)
	e.NotifyJoin(member("1"))
	see("while it is there", began)
	e.NotifyLeave(member("1"))
	see("when it has gone", began)
	see("later", time.Now().Add(goneQuiet), addr)
	e.NotifyLeave(member("1"))
	e.NotifyJoin(member("2"))
	see("in its next life", time.Now().Add(goneQuiet))
}

func TestTwoLivesNewerFirst(t *testing.T) {
	start := time.Now()
	born := func(after time.Duration, join ...string) func(*Config) {
		return func(c *Config) { c.Member.Started, c.Join = start.Add(after), join }
	}
	a, _ := startRing(t, "a", "1", nil)
	startRing(t, "n", "9old", born(0, a.Addr()))
	startRing(t, "n", "1new", born(time.Second, a.Addr()))
	await(t, a, 10*time.Second, "a/1", "n/1new", "n/9old")
}

func TestJoinAddressNotYetUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	b, _ := startRing(t, "b", "1", joining("no.such.host.invalid:7946", addr))
	await(t, b, 10*time.Second, "b/1")
	startRing(t, "a", "1", func(c *Config) { c.Bind = addr })
	await(t, b, 15*time.Second, "a/1", "b/1")
}

// A controller that returns at another address and has nothing to join is found
// again, because it remembers its peers.
func TestPeersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.json")
	remembering := func(c *Config) { c.PeersFile = file }
	a, _ := startRing(t, "a", "1", remembering)
	b, _ := startRing(t, "b", "1", joining(a.Addr()))
	await(t, a, 10*time.Second, "a/1", "b/1")
	await(t, b, 10*time.Second, "a/1", "b/1")
	eventually(t, func() error {
		text, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(text), b.Addr()) {
			err = fmt.Errorf("%s has %s, want %s in it", file, text, b.Addr())
		}
		return err
	})
	a.Close()
	a2, _ := startRing(t, "a", "2", remembering)
	await(t, a2, 10*time.Second, "a/2", "b/1")
	await(t, b, 20*time.Second, "a/2", "b/1")
}

func TestBrokenPeersFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.json")
	if err := os.WriteFile(file, []byte(`{"10.0.0.1:1": "yes`), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := startRing(t, "a", "1", func(c *Config) { c.PeersFile = file })
	await(t, a, time.Second, "a/1")
}

func TestNewRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"long meta":     {func(c *Config) { c.Member.GRPC = strings.Repeat("x", 600) }, "shorter addresses"},
		"long name":     {func(c *Config) { c.Member.Node = fleet.NodeID(strings.Repeat("n", 300)) }, "255 are allowed"},
		"no name":       {func(c *Config) { c.Member.Node = "" }, "needs a node name"},
		"no role":       {func(c *Config) { c.Member.Role = "x" }, `unknown role "x"`},
		"join no port":  {func(c *Config) { c.Join = []string{"10.0.0.1"} }, "join address"},
		"bind no port":  {func(c *Config) { c.Bind = "127.0.0.1" }, "gossip address"},
		"bind no host":  {func(c *Config) { c.Bind = "no.such.host.invalid:0" }, "gossip address"},
		"bad advertise": {func(c *Config) { c.Advertise = "no.such.host.invalid:1" }, "advertised gossip address"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{
				Member: fleet.Member{Node: "a", Life: "1", Role: fleet.RoleWorker},
				Bind:   "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
			}
			tc.change(&cfg)
			r, err := New(cfg)
			if err == nil {
				r.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New gave %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestLogLevels(t *testing.T) {
	var b strings.Builder
	ll := &listLog{log: slog.New(slog.NewTextHandler(&b, nil))}
	l := ll.logger()
	l.Printf("[DEBUG] memberlist: quiet")
	l.Printf("[ERR] memberlist: it went wrong")
	ll.mute()
	l.Printf("[ERR] memberlist: too late")
	if got := b.String(); strings.Contains(got, "quiet") || strings.Contains(got, "too late") || !strings.Contains(got, `level=WARN msg=memberlist text="it went wrong"`) {
		t.Errorf("logged %q", got)
	}
}

func TestPeersBounded(t *testing.T) {
	p, err := loadPeers("")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	p.seen("old:1", now.Add(-2*forgetPeersAfter))
	for i := range 2 * rememberedPeers {
		p.seen(fmt.Sprintf("h:%d", i), now.Add(time.Duration(i)))
	}
	if err := p.snapshot(now)(); err != nil {
		t.Fatal(err)
	}
	if _, kept := p.last[fmt.Sprintf("h:%d", rememberedPeers)]; len(p.last) != rememberedPeers || !kept {
		t.Errorf("%d peers are remembered, want the newest %d", len(p.last), rememberedPeers)
	}
	if got := p.some(3); len(got) != 3 {
		t.Errorf("some(3) = %v", got)
	}
}

// eventually polls conditions that no event announces.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	var err error
	deadline := time.After(10 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if err = check(); err == nil {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

// The description of a controller changes when it becomes part of a cluster.
// Members that join later see the change too.
func TestUpdate(t *testing.T) {
	a, _ := startRing(t, "a", "1", func(c *Config) {
		c.Member.Role, c.Member.Controller, c.Member.Raft = fleet.RoleController, "0123456789abcdef", "127.0.0.1:7000"
		c.Member.Expect, c.Member.Format = 3, 1
	})
	b, _ := startRing(t, "b", "1", joining(a.Addr()))
	seen := func(r *Ring) fleet.Member {
		for _, m := range r.Members() {
			if m.Node == "a" {
				return m
			}
		}
		return fleet.Member{}
	}
	await(t, b, 20*time.Second, "a/1", "b/1")
	if m := seen(b); m.Controller != "0123456789abcdef" || m.Raft != "127.0.0.1:7000" || m.Expect != 3 || m.Format != 1 || m.Cluster != "" {
		t.Errorf("b sees %+v", m)
	}
	if err := a.Update(func(m *fleet.Member) { m.Cluster = "c1"; m.Node = "other" }); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for seen(b).Cluster != "c1" {
		select {
		case <-b.Changed():
		case <-deadline:
			t.Fatalf("b sees %+v", seen(b))
		}
	}
	if m := seen(a); m.Cluster != "c1" || m.Node != "a" {
		t.Errorf("a sees itself as %+v", m)
	}
	if err := a.Update(func(m *fleet.Member) { m.Raft = strings.Repeat("x", 600) }); err == nil {
		t.Error("a member that does not fit was taken")
	}
}
