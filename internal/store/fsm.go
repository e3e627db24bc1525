package store

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// fsm connects raft to desired.State. Raft calls its methods one at a time. State
// may be called at any time.
type fsm struct {
	state   atomic.Pointer[desired.State]
	cluster func() fleet.ClusterID // that this controller belongs to
	fail    func(error)
	moved   func()
	applied func(desired.Result)
	founded chan struct{} // one value: the cluster's id is in the state
	err     error         // once set, nothing is applied any more
	took    prometheus.Histogram
}

func newFSM(cluster func() fleet.ClusterID, fail func(error), moved func()) *fsm {
	f := &fsm{cluster: cluster, fail: fail, moved: moved, applied: func(desired.Result) {}, founded: make(chan struct{}, 1), took: applyHistogram()}
	f.state.Store(&desired.State{})
	return f
}

func (f *fsm) State() *desired.State { return f.state.Load() }

// Apply applies an entry. It returns a desired.Result, or an error if the store
// cannot continue.
func (f *fsm) Apply(l *raft.Log) any {
	if f.err != nil {
		return f.err
	}
	begin := time.Now()
	e, err := desired.DecodeEntry(l.Data)
	if err != nil {
		return f.broke(fmt.Errorf("entry %d of the log: %w", l.Index, err))
	}
	if err := f.State().Foreign(e.Command); err != nil {
		return f.broke(fmt.Errorf("entry %d of the log: %w: %s", l.Index, err, rejoinHint))
	}
	result := f.State().Apply(l.Index, l.Term, e)
	if err := f.put(result.State); err != nil {
		return err
	}
	f.took.Observe(time.Since(begin).Seconds())
	f.applied(result)
	return result
}

// StoreConfiguration advances Applied for changes of the members too, so that a
// reader can wait for the index of any entry after a leader's first.
func (f *fsm) StoreConfiguration(index uint64, _ raft.Configuration) {
	if f.err == nil {
		_ = f.put(f.State().SkipTo(index)) // put has reported the error
	}
}

func (f *fsm) put(next *desired.State) error {
	if own := f.cluster(); own != "" && next.Cluster != "" && own != next.Cluster {
		return f.broke(fmt.Errorf("this controller belongs to cluster %s, but raft received the state of %s: "+
			"move its data directory away to let it join the other", own, next.Cluster))
	}
	unknown := f.State().Cluster == ""
	f.state.Store(next)
	if unknown && next.Cluster != "" {
		select {
		case f.founded <- struct{}{}:
		default:
		}
	}
	f.moved()
	return nil
}

// broke stops applying for good. Without an entry that could not be applied this
// state would differ from that of the others.
func (f *fsm) broke(err error) error {
	f.err = err
	if errors.Is(err, desired.ErrTooNew) {
		f.err = fmt.Errorf("%w: run a version of mcpfleet at least as new as the controller that wrote it", err)
	}
	f.fail(f.err)
	f.moved()
	return f.err
}

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.err != nil {
		return nil, f.err // a snapshot would claim to have the entries that were not applied
	}
	return snapshot{f.State()}, nil
}

func (f *fsm) Restore(r io.ReadCloser) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	st, err := desired.Decode(data)
	if err != nil {
		return f.broke(fmt.Errorf("snapshot: %w", err))
	}
	return f.put(st)
}

// snapshot writes a state to a file. States do not change, so entries can be
// applied meanwhile.
type snapshot struct{ state *desired.State }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	data, err := s.state.Encode()
	if err == nil {
		_, err = sink.Write(data)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

func (snapshot) Release() {}
