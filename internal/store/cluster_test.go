package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// patience is how long a test waits for a condition.
const patience = 60 * time.Second

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = ok(); last == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: still not after %v: %v", what, patience, last)
		}
	}
}

// tenure is one call of the function given to Lead.
type tenure struct {
	by         fleet.ControllerID
	order      fleet.Order
	begin, end int // in the order in which the cluster saw them
}

// cluster is some controllers in one process.
type cluster struct {
	t    *testing.T
	net  *wires
	base string
	dirs map[fleet.ControllerID]string
	wrap func(fleet.ControllerID) func(logStore) logStore

	applied func(desired.Result) // on all of them
	tune    func(*Config)        // of all of them; may be nil

	mu      sync.Mutex
	live    map[fleet.ControllerID]*Store
	leads   map[fleet.ControllerID]func() // ends Lead
	clock   int
	tenures []*tenure
	linger  map[fleet.ControllerID]chan struct{} // its tenures do not end before this is closed
}

func quietLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{
		t: t, net: newWires(), base: t.TempDir(), dirs: map[fleet.ControllerID]string{},
		live: map[fleet.ControllerID]*Store{}, leads: map[fleet.ControllerID]func(){},
	}
	t.Cleanup(func() {
		for _, s := range c.stores() {
			c.close(s)
		}
		c.checkTenures()
	})
	return c
}

// add starts a controller in a fresh directory.
func (c *cluster) add() *Store {
	c.t.Helper()
	return c.startIn(filepath.Join(c.base, fmt.Sprint(len(c.dirs)+1)))
}

func (c *cluster) startIn(path string) *Store {
	c.t.Helper()
	d, err := Prepare(path)
	if err != nil {
		c.t.Fatal(err)
	}
	id := d.ID()
	ln, err := c.net.under.listen()
	if err != nil {
		c.t.Fatal(err)
	}
	c.net.mu.Lock()
	c.net.addrs[id] = ln.Addr().String()
	c.net.mu.Unlock()
	cfg := Config{Dir: d, Name: fleet.NodeID(filepath.Base(path)), Log: quietLog(c.t), Listener: ln, Resolve: c.net.resolve, Expect: 3, Applied: c.applied, dial: c.net.dialer(id)}
	if c.wrap != nil {
		cfg.wrap = c.wrap(id)
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Lead(ctx, func(ctx context.Context, o fleet.Order) { c.tenure(ctx, s, o) })
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirs[id], c.live[id] = path, s
	c.leads[id] = func() { cancel(); <-done }
	return s
}

func (c *cluster) tenure(ctx context.Context, s *Store, o fleet.Order) {
	tn := &tenure{by: s.ID(), order: o}
	c.mu.Lock()
	c.clock++
	tn.begin = c.clock
	c.tenures = append(c.tenures, tn)
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	linger := c.linger[s.ID()]
	c.mu.Unlock()
	if linger != nil {
		<-linger
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	tn.end = c.clock
}

// checkTenures checks that no order is used twice, that all are of one cluster, and
// that no two tenures of one controller overlap.
func (c *cluster) checkTenures() {
	seen := map[fleet.Order]fleet.ControllerID{}
	for i, a := range c.tenures {
		if by, twice := seen[a.order]; twice {
			c.t.Errorf("order %+v is of %s and of %s", a.order, by, a.by)
		}
		seen[a.order] = a.by
		if a.end == 0 {
			c.t.Errorf("tenure %+v never ended", a)
		}
		for _, b := range c.tenures[:i] {
			if a.by == b.by && a.begin < b.end {
				c.t.Errorf("tenures %+v and %+v overlap", b, a)
			}
			if a.order.Cluster != b.order.Cluster {
				c.t.Errorf("orders of clusters %s and %s", a.order.Cluster, b.order.Cluster)
			}
		}
	}
}

func (c *cluster) stores() []*Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*Store
	for _, s := range c.live {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Store) int { return len(c.dirs[a.ID()]) - len(c.dirs[b.ID()]) })
	return out
}

// close stops a controller as its program does. With an ended context there is no
// time to hand leadership over.
func (c *cluster) close(s *Store) { c.closeWithin(context.Background(), s) }

func (c *cluster) closeWithin(ctx context.Context, s *Store) {
	c.t.Helper()
	c.mu.Lock()
	end := c.leads[s.ID()]
	delete(c.live, s.ID())
	c.mu.Unlock()
	if err := s.Close(ctx); err != nil {
		c.t.Errorf("close: %v", err)
	}
	end()
}

// kill ends a controller without any further message from it.
func (c *cluster) kill(s *Store) {
	c.t.Helper()
	var others []fleet.ControllerID
	for id := range c.dirs {
		if id != s.ID() {
			others = append(others, id)
		}
	}
	c.net.separate([]fleet.ControllerID{s.ID()}, others)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.closeWithin(ctx, s)
	c.net.heal()
}

func (c *cluster) restart(s *Store) *Store {
	c.t.Helper()
	return c.startIn(c.dirs[s.ID()])
}

// three starts three controllers that found a cluster.
func three(t *testing.T) *cluster {
	t.Helper()
	return startThree(newCluster(t))
}

func startThree(c *cluster) *cluster {
	c.t.Helper()
	var ids []fleet.ControllerID
	for range 3 {
		ids = append(ids, c.add().ID())
	}
	if err := c.live[slices.Min(ids)].Bootstrap(ids); err != nil {
		c.t.Fatal(err)
	}
	c.leader()
	return c
}

// one starts a cluster of one.
func one(t *testing.T) (*cluster, *Store) {
	t.Helper()
	c := newCluster(t)
	s := c.add()
	if err := s.Bootstrap([]fleet.ControllerID{s.ID()}); err != nil {
		t.Fatal(err)
	}
	return c, c.leader()
}

// leader waits for a controller whose tenure has begun.
func (c *cluster) leader() (leader *Store) {
	c.t.Helper()
	eventually(c.t, "a leader", func() error {
		for _, s := range c.stores() {
			if _, ok := s.tenure(); ok {
				leader = s
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

func (c *cluster) followers() []*Store {
	c.t.Helper()
	lead := c.leader()
	return slices.DeleteFunc(c.stores(), func(s *Store) bool { return s == lead })
}

// must writes through the leader, and tries again if leadership is lost, which
// happens on a busy machine.
func (c *cluster) must(cmd desired.Command) desired.Result {
	c.t.Helper()
	var res desired.Result
	eventually(c.t, "a write", func() (err error) {
		res, err = c.leader().Propose(c.t.Context(), cmd)
		if err != nil && !errors.Is(err, fleet.ErrNotLeader) && !errors.Is(err, fleet.ErrOutcomeUnknown) {
			c.t.Fatal(err)
		}
		return err
	})
	return res
}

// read reads from the leader.
func (c *cluster) read() (st *desired.State) {
	c.t.Helper()
	eventually(c.t, "a read", func() (err error) {
		st, err = c.leader().Read(c.t.Context())
		return err
	})
	return st
}

// agree waits until all have applied the leader's entries, and compares their states.
func (c *cluster) agree() {
	c.t.Helper()
	eventually(c.t, "agreement", func() error {
		want, err := c.leader().Read(c.t.Context())
		if err != nil {
			return err
		}
		data, err := want.Encode()
		if err != nil {
			return err
		}
		for _, s := range c.stores() {
			got, err := s.State().Encode()
			if err != nil || string(got) != string(data) {
				return fmt.Errorf("%s has entry %d, the leader %d; %w", s.ID(), s.AppliedIndex(), want.Applied, err)
			}
		}
		return nil
	})
}

func spec(image string, replicas int) fleet.Spec {
	return fleet.Spec{
		Template: fleet.Template{Image: image, Env: map[string]string{"KEY": "secret"}, StartTimeout: time.Minute},
		Replicas: replicas, CallTimeout: 5 * time.Second,
	}
}

func put(name, image string) desired.PutServer {
	return desired.PutServer{Name: fleet.ServerName(name), Spec: spec(image, 1)}
}

func has(st *desired.State, name, image string) error {
	sv := st.Servers[fleet.ServerName(name)]
	if sv == nil || sv.Spec.Image != image {
		return fmt.Errorf("server %s = %+v, want image %s", name, sv, image)
	}
	return nil
}
