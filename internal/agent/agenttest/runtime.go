// Package agenttest is a fleet.Runtime for tests: it runs Go functions as MCP
// servers over pipes in memory.
//
// It keeps the runtime contract to the letter and works in synctest bubbles.
// It can be told to fail or delay one named step (Inject), to kill a replica
// (Kill), and it reports what is alive (Alive) and what was done to each replica
// (Steps), so that a test can assert that nothing leaked and that a stop took
// its steps in order. What a server does is the test's choice (Handle); by
// default it is Echo.
//
// The runtime owns the goroutines of its servers; Close waits for them.
package agenttest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Runtime runs Go functions as replicas. Make one with New. All methods may be
// called at once.
type Runtime struct {
	running sync.WaitGroup

	mu        sync.Mutex
	handlers  map[fleet.ServerName]Server
	faults    []*Fault
	leftovers []string
	processes map[fleet.ReplicaID]*process // until removed
	steps     map[fleet.ReplicaID][]string
	started   map[fleet.ServerName]int
	counts    map[string]int
	prepared  []string
	swept     bool
	closed    bool
}

// New returns a runtime that serves Echo.
func New() *Runtime {
	return &Runtime{
		handlers:  map[fleet.ServerName]Server{},
		processes: map[fleet.ReplicaID]*process{},
		steps:     map[fleet.ReplicaID][]string{},
		started:   map[fleet.ServerName]int{},
		counts:    map[string]int{},
	}
}

// Handle makes replicas of the server run fn from now on. The name "" stands
// for every server without its own.
func (rt *Runtime) Handle(name fleet.ServerName, fn Server) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.handlers[name] = fn
}

// Leave makes the next Sweep report that it removed these.
func (rt *Runtime) Leave(names ...string) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.leftovers = append(rt.leftovers, names...)
}

// Alive lists the replicas of which something remains: started or starting,
// and not yet removed.
func (rt *Runtime) Alive() []fleet.ReplicaID {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	ids := make([]fleet.ReplicaID, 0, len(rt.processes))
	for id := range rt.processes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Starts returns how many replicas of the server were started, failed starts
// included.
func (rt *Runtime) Starts(name fleet.ServerName) int {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.started[name]
}

// Steps returns what was done to the replica, in order: "pull", "start", "stdin
// closed", "TERM", "KILL", "exit", "remove".
func (rt *Runtime) Steps(id fleet.ReplicaID) []string {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return slices.Clone(rt.steps[id])
}

// Kill ends the replica's process as if by SIGKILL from outside. It tells
// whether there was one.
func (rt *Runtime) Kill(id fleet.ReplicaID) bool {
	rt.mu.Lock()
	p := rt.processes[id]
	rt.mu.Unlock()
	return p != nil && p.end(fleet.Exit{Code: -1, Signal: "SIGKILL"})
}

// Consume makes the replica use some CPU time more, and so much memory.
func (rt *Runtime) Consume(id fleet.ReplicaID, cpu time.Duration, memory int64) {
	rt.mu.Lock()
	p := rt.processes[id]
	rt.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cpu += cpu
	p.memory = memory
}

// Count returns how often the tool "count" of Echo ran for a key, on all
// replicas together: a call delivered twice shows here.
func (rt *Runtime) Count(key string) int {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.counts[key]
}

func (rt *Runtime) count(key string) int {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.counts[key]++
	return rt.counts[key]
}

func (rt *Runtime) note(id fleet.ReplicaID, step string) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.steps[id] = append(rt.steps[id], step)
}

// Name is part of fleet.Runtime.
func (rt *Runtime) Name() string { return "test" }

// Sweep is part of fleet.Runtime.
func (rt *Runtime) Sweep(ctx context.Context) ([]string, error) {
	if err := rt.fault(ctx, StepSweep, "", ""); err != nil {
		return nil, err
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.swept {
		return nil, fmt.Errorf("sweep called twice")
	}
	rt.swept = true
	removed := rt.leftovers
	rt.leftovers = nil
	return removed, nil
}

// Prepare is part of fleet.Runtime. It pulls where a fault of StepPull matches, and
// keeps the image's name.
func (rt *Runtime) Prepare(ctx context.Context, l fleet.Launch) error {
	if l.Pulling == nil || l.Template == nil {
		return fmt.Errorf("launch of %s is not complete", l.Replica)
	}
	rt.mu.Lock()
	rt.prepared = append(rt.prepared, l.Template.Image)
	pulls := rt.has(StepPull, l.Server, l.Replica)
	rt.mu.Unlock()
	if !pulls {
		return nil
	}
	rt.note(l.Replica, "pull")
	l.Pulling("copying blob 1 of 2")
	if err := rt.fault(ctx, StepPull, l.Server, l.Replica); err != nil {
		return fmt.Errorf("pull image: %w", err)
	}
	return nil
}

// Prepared returns the images that were prepared, in order.
func (rt *Runtime) Prepared() []string {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return slices.Clone(rt.prepared)
}

// Start is part of fleet.Runtime.
func (rt *Runtime) Start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	if l.Template == nil {
		return nil, fmt.Errorf("launch of %s is not complete", l.Replica)
	}
	rt.mu.Lock()
	rt.started[l.Server]++
	if rt.closed {
		rt.mu.Unlock()
		return nil, fmt.Errorf("start %s: runtime is closed", l.Replica)
	}
	if _, dup := rt.processes[l.Replica]; dup {
		rt.mu.Unlock()
		return nil, fmt.Errorf("start %s: it runs already", l.Replica)
	}
	serve := rt.handlers[l.Server]
	if serve == nil {
		serve = rt.handlers[""]
	}
	if serve == nil {
		serve = Echo{}.Serve
	}
	p := newProcess(rt, l)
	rt.processes[l.Replica] = p
	rt.mu.Unlock()

	forget := func(err error) (fleet.Process, error) {
		rt.mu.Lock()
		defer rt.mu.Unlock()
		delete(rt.processes, l.Replica)
		return nil, err
	}
	rt.note(l.Replica, "start")
	if err := rt.fault(ctx, StepStart, l.Server, l.Replica); err != nil {
		return forget(err)
	}
	rt.running.Go(func() { p.run(serve) })
	return p, nil
}

// Close is part of fleet.Runtime. A replica that was not removed is an error.
func (rt *Runtime) Close(ctx context.Context) error {
	rt.mu.Lock()
	rt.closed = true
	rt.mu.Unlock()
	if left := rt.Alive(); len(left) > 0 {
		return fmt.Errorf("close runtime: not removed: %v", left)
	}
	done := make(chan struct{})
	go func() { // ends with the servers
		rt.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close runtime: servers still run: %w", context.Cause(ctx))
	}
}
