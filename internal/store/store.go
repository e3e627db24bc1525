// Package store keeps desired state in raft. The commands of package desired are
// written to a replicated log, and each controller applies them to its own state.
// It is the only importer of hashicorp/raft, raft-boltdb and bbolt.
//
// It promises:
//   - a majority of the voters has fsynced a write before Propose returns;
//   - Read sees every write that was acknowledged before it was called;
//   - a write that fails with fleet.ErrNotLeader did not happen;
//   - two tenures of Lead never overlap on one controller;
//   - only one process at a time uses a directory.
//
// A damaged log, or a command of a later version, stops the store with an error
// that names the file or entry and what to do. The store never continues with a
// state that differs from that of the others.
//
// Package membership decides who is a member, and package observe knows what runs.
// Prepare takes the directory. Open starts raft's goroutines and three of its own,
// and Close ends them all. All other methods may be called at any time.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Config is what a store is opened with.
type Config struct {
	Dir      *Dir         // from Prepare; the store closes it
	Name     fleet.NodeID // this controller's name, recorded with its tenures
	Log      *slog.Logger
	Listener net.Listener // raft's; the store closes it
	// Resolve finds a controller's raft address. It is called for every dial, so a
	// controller may return under another address.
	Resolve func(fleet.ControllerID) (addr string, ok bool)
	Expect  int // recorded when this controller founds the cluster; at least 1
	// Formats returns the lowest format that all living controllers
	// understand. Nil: they all understand desired.Format.
	Formats func() int
	// Applied is called with the outcome of each command, in order, on every
	// controller, even if its proposer no longer waits. After a start it is called
	// for old commands too. It must not block. It may be nil.
	Applied  func(desired.Result)
	Timeouts Timeouts
	// DiskTimeout is how long a write to raft's log may take before the disk
	// counts as hung. A leader then gives up leadership. 0: DefaultDiskTimeout.
	DiskTimeout time.Duration
	// WriteTimeout is how long Propose waits for a majority.
	// 0: DefaultWriteTimeout.
	WriteTimeout time.Duration

	// For tests: dial makes connections, and wrap replaces raft's log.
	dial func(ctx context.Context, addr string) (net.Conn, error)
	wrap func(logStore) logStore
}

// Timeouts are raft's. A zero field means its default.
type Timeouts struct {
	Heartbeat time.Duration // silence of the leader after which a follower stands for election
	Election  time.Duration // of a round of votes
	Lease     time.Duration // silence of the majority after which a leader steps down
	Commit    time.Duration // until followers learn of a commit when no entry follows
}

// With these timeouts a follower stands for election 0.4-0.8 s after its leader's
// death. An undisturbed election takes milliseconds, so even a second attempt ends
// within 2 s.
var defaultTimeouts = Timeouts{
	Heartbeat: 400 * time.Millisecond,
	Election:  400 * time.Millisecond,
	Lease:     250 * time.Millisecond,
	Commit:    50 * time.Millisecond,
}

// logStore is raft's disk: log entries, and term and vote.
type logStore interface {
	raft.LogStore
	raft.StableStore
}

// Store is desired state on one controller.
type Store struct {
	cfg   Config
	dir   *Dir
	log   *slog.Logger
	disk  *disk
	net   *transport
	raft  *raft.Raft
	fsm   *fsm
	board notice.Board // for subscribers: state or leader changed
	pulse pulse        // for waiters in this package: anything changed

	roles    chan bool             // from raft: leadership was won or lost
	observed chan raft.Observation // from raft: another leader, another role
	stop     chan struct{}         // closed to end the goroutines
	verify   chan struct{}         // one value: have the followers confirm leadership
	watched  sync.WaitGroup
	probes   sync.WaitGroup // writes that test the disk
	pending  pending
	gate     writeGate // of Propose; a transfer of leadership shuts it

	beginnings beginnings

	failure
	flight
}

// Open starts raft in the prepared directory. It owns the directory and the
// listener from then on, even if it fails.
func Open(cfg Config) (*Store, error) {
	s := &Store{
		cfg: cfg, dir: cfg.Dir, log: cfg.Log.With("component", "store"),
		roles: make(chan bool, 16), observed: make(chan raft.Observation, 64), stop: make(chan struct{}),
		verify: make(chan struct{}, 1),
	}
	s.cfg.DiskTimeout = cmp.Or(cfg.DiskTimeout, DefaultDiskTimeout)
	s.cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, DefaultWriteTimeout)
	s.failure.init()
	s.flight.init()
	if err := s.open(); err != nil {
		return nil, errors.Join(err, cfg.Listener.Close(), cfg.Dir.Close())
	}
	return s, nil
}

func (s *Store) open() error {
	watch := newDiskWatch(s.cfg.DiskTimeout, s.log, s.giveUp, s.moved)
	disk, err := openDisk(s.dir.path, newHCLog(s.log), watch, s.cfg.wrap)
	if err != nil {
		return err
	}
	s.disk = disk
	s.fsm = newFSM(s.dir.Cluster, s.fail, s.moved)
	if s.cfg.Applied != nil {
		s.fsm.applied = s.cfg.Applied
	}
	s.net = newTransport(s.dir, s.cfg, s.fsm, newHCLog(s.log), watch, s.pulse.post)
	conf := raftConfig(s.dir.ID(), s.cfg.Timeouts, newHCLog(s.log))
	conf.NotifyCh = s.roles
	s.raft, err = raft.NewRaft(conf, s.fsm, disk, patientTerm{disk, &s.flight}, disk.snapshots, s.net)
	if err != nil {
		s.net.shut()
		return errors.Join(fmt.Errorf("start raft: %w", err), disk.Close())
	}
	s.net.term, s.net.replicates, s.net.intake.ledSince = s.raft.CurrentTerm, s.replicates, s.ledSince
	close(s.net.layer.ready)
	s.raft.RegisterObserver(raft.NewObserver(s.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	}))
	s.watched.Go(s.watch)
	s.watched.Go(s.guard)
	s.watched.Go(s.verifyLeader)
	return nil
}

// raftConfig returns raft's configuration, without channels.
func raftConfig(id fleet.ControllerID, t Timeouts, log *hclogger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.Logger = log
	c.NoLegacyTelemetry = true
	pick := func(d, fallback time.Duration) time.Duration {
		if d > 0 {
			return d
		}
		return fallback
	}
	c.HeartbeatTimeout = pick(t.Heartbeat, defaultTimeouts.Heartbeat)
	c.ElectionTimeout = pick(t.Election, defaultTimeouts.Election)
	c.LeaderLeaseTimeout = pick(t.Lease, defaultTimeouts.Lease)
	c.CommitTimeout = pick(t.Commit, defaultTimeouts.Commit)
	// A removed controller keeps running as a follower without a leader. Its local
	// view still serves calls until the operator stops it.
	c.ShutdownOnRemove = false
	// The state is small, a few KiB per server, and one entry may be as large as
	// the state (a whole fleet file). A snapshot every few hundred entries costs
	// little, and keeps the replay and the check of the log at a start short.
	c.SnapshotThreshold = 512
	c.SnapshotInterval = 30 * time.Second
	// Entries that stay in the log after a snapshot. A controller that missed fewer
	// catches up without a snapshot.
	c.TrailingLogs = 512
	return c
}

// watch notifies waiters and subscribers when raft's leader or role changes, and
// writes the cluster's id to the directory once it is known. It must be fast: raft's
// main loop waits for it when the channel of roles is full.
func (s *Store) watch() {
	var leader fleet.ControllerID
	for {
		select {
		case <-s.roles:
		case <-s.observed:
		case <-s.fsm.founded:
			if err := s.dir.setCluster(s.State().Cluster); err != nil {
				// Raft has the cluster's id too; the next start writes it again.
				s.log.Warn("cluster id not written", "err", err)
			}
		case <-s.stop:
			return
		}
		s.moved()
		if now, term, _ := s.Leader(); now != leader {
			s.log.Info("leader changed", "from", leader, "to", now, "term", term)
			leader = now
		}
	}
}

// moved notifies waiters and subscribers that state or leader may have changed.
func (s *Store) moved() {
	s.pulse.post()
	s.board.Post()
}

// ID returns this controller's id.
func (s *Store) ID() fleet.ControllerID { return s.dir.ID() }

// Cluster returns the id of the cluster that this controller belongs to, or "" if
// it belongs to no cluster yet.
func (s *Store) Cluster() fleet.ClusterID {
	if c := s.State().Cluster; c != "" {
		return c
	}
	return s.dir.Cluster()
}

// Stateless reports whether there is no raft state at all. Such a controller may
// found a cluster or join one.
func (s *Store) Stateless() bool {
	return s.raft.LastIndex() == 0 && s.raft.CurrentTerm() == 0
}

// Bootstrap founds a cluster of these voters, this controller among them. It is
// called on one of them only, and only while all are stateless.
func (s *Store) Bootstrap(voters []fleet.ControllerID) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := s.raft.BootstrapCluster(voting(voters...)).Error(); err != nil {
		return fmt.Errorf("bootstrap a cluster of %d: %w", len(voters), err)
	}
	s.log.Info("bootstrapped a cluster", "voters", len(voters))
	return nil
}

// State returns desired state as this controller knows it. A majority has accepted
// all of it, but the latest writes may be missing. It is never nil.
func (s *Store) State() *desired.State { return s.fsm.State() }

// Servers returns the desired servers, by name, as this controller knows them. The
// specs are shared: do not edit them.
func (s *Store) Servers() []fleet.Server { return s.State().List() }

// KnownNodes returns the nodes that may be running replicas, as last set.
func (s *Store) KnownNodes() []fleet.NodeID { return s.State().Known }

// Nodes returns what operators intend for nodes. The map is shared: do not edit it.
func (s *Store) Nodes() map[fleet.NodeID]fleet.NodeIntent { return s.State().Nodes }

// Subscribe reports when the state or the leader may have changed.
func (s *Store) Subscribe() (look <-chan struct{}, cancel func()) { return s.board.Subscribe() }

// Close hands leadership over if it can within a second, and shuts raft down.
// This controller stays a voter.
func (s *Store) Close(ctx context.Context) error {
	if !s.beginClosing() {
		return nil // closed before
	}
	s.handOver(ctx)
	// When raft shuts down it drops its pending operations, and whoever waits for
	// one would wait forever. Without leadership, or in a cluster of one, they end
	// soon by themselves.
	s.drain(time.Second)
	s.net.shut() // ends the requests of peers too: raft does not wait for them
	err := s.shutdown()
	s.pulse.post()
	return errors.Join(err, s.dir.Close())
}

// hungGrace is how long a store that closes waits for a disk that hangs.
const hungGrace = time.Second

// shutdown ends raft and closes its files. A hung disk blocks raft's main loop and
// the files. They are left open then, until the process ends.
func (s *Store) shutdown() error {
	stopped := make(chan error, 1)
	go func() {
		err := s.raft.Shutdown().Error()
		s.watched.Wait()
		s.probes.Wait()
		stopped <- errors.Join(err, s.disk.Close())
	}()
	close(s.stop)
	select {
	case err := <-stopped:
		return err
	case <-s.disk.watch.hangs():
	}
	select {
	case err := <-stopped:
		return err
	case <-time.After(hungGrace):
		return fmt.Errorf("stop raft: %s", cmp.Or(s.disk.watch.problem(), "the disk did not answer"))
	}
}
