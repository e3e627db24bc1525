// Package sessions gives replicas to sessions. On a server with sessions: session, each
// client session has a replica to itself, from its first use to its end, and nobody else
// ever uses that replica.
//
// It promises:
//
//   - Open is idempotent: a session has at most one replica of a server, however many
//     controllers open it at once, whichever leads meanwhile.
//   - A replica that a session has had is never given to another one.
//   - Sessions that wait for a replica get one in their order. Their number is bounded.
//   - A session that was ended at one controller is ended at all.
//
// Only the leader gives replicas away, in Lead, because it alone knows of all. Any
// controller asks it, by Open, and repeats that while leaders change. The leader picks a
// spare that runs and was never spoken to, and has its worker send the client's own
// initialize. Package reconcile starts the spares that are waited for. Lead also ends
// the sessions that are idle or too old.
//
// Nothing of it is desired state. Which replica belongs to which session is what the
// workers report. What clients have set is in a Directory, which the controllers
// replicate among each other.
//
// Run owns every goroutine. All other methods may be called at any time.
package sessions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

const (
	// askAgain is the wait before the leader is asked again, after there was none, or it
	// was lost.
	askAgainMin, askAgainMax = 50 * time.Millisecond, 500 * time.Millisecond
	// routedWait is how long the router may take to know a replica that was given to a
	// session, before the leader is asked again: the replica may be gone already.
	routedWait = time.Second
	// orderTimeout bounds one order to a worker to close a session.
	orderTimeout = 5 * time.Second
	// reconnectTime is how long a node may be unreachable before the sessions that it has
	// get fresh replicas elsewhere. A stream that only broke is back sooner.
	reconnectTime = 500 * time.Millisecond
)

// Desired is what users asked for. Package store implements it.
type Desired interface {
	Servers() []fleet.Server
	Subscribe() (look <-chan struct{}, cancel func())
}

// View is what runs. Package observe implements it.
type View interface {
	Snapshot() *observe.Snapshot
	Subscribe() (look <-chan struct{}, cancel func())
}

// Config is what a Service needs.
type Config struct {
	Self      fleet.LifeID // of this controller
	Order     func() (order fleet.Order, known bool)
	Desired   Desired
	View      View
	Members   Members
	Directory *Directory
	// Leader returns the controller that leads, and whether it is this one. Its error wraps
	// fleet.ErrNoLeader.
	Leader func() (leader fleet.Member, self bool, err error)
	Dial   func(fleet.Member) (Controller, error)
	// Routed waits until the router sends the session's calls to the replica, which may never
	// be, or until ctx ends.
	Routed func(ctx context.Context, server fleet.ServerName, session fleet.SessionID, replica fleet.ReplicaID) error
	// Hopeless says why waiting for a replica of a server is of no use, "" if it is of use.
	// It may be nil.
	Hopeless func(fleet.ServerName) string
	// Record receives the leader's events. It must not block.
	Record   func(kind fleet.EventKind, server fleet.ServerName, replica fleet.ReplicaID, message string)
	Registry prometheus.Registerer // nil: no metrics
	Log      *slog.Logger
}

// Service opens and ends sessions.
type Service struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	tenure  atomic.Pointer[tenure] // while this controller leads
	waiting notice.Board           // Waiting may have changed
	closing sync.WaitGroup         // orders to close sessions
	leader  leaderLink
	links   links
}

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.Record == nil {
		cfg.Record = func(fleet.EventKind, fleet.ServerName, fleet.ReplicaID, string) {}
	}
	if cfg.Hopeless == nil {
		cfg.Hopeless = func(fleet.ServerName) string { return "" }
	}
	s := &Service{cfg: cfg, log: cfg.Log.With("component", "sessions"), leader: leaderLink{dial: cfg.Dial}}
	s.metrics = newMetrics(cfg.Registry, s)
	return s
}

// Open returns the replica of a session, and gives it one if it has none. Then the router
// sends the session's calls there. It waits for a replica, and for a leader, until ctx
// ends. Other errors wrap
//   - fleet.ErrUnknownServer, or fleet.ErrConflict for a server whose sessions have no
//     replicas to themselves;
//   - fleet.ErrSessionLost: the session was ended, or has lost its replica on a server
//     that does not forgive that;
//   - fleet.ErrOverloaded: there are too many sessions, or too many wait;
//   - fleet.ErrNoReplica: no replica can be started, and why;
//   - fleet.ErrReplicaLost: the server ended, or did not answer initialize.
func (s *Service) Open(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	if r.Until.IsZero() {
		r.Until = time.Now().Add(fleet.MaxSessionLifetime)
	}
	if r.Restore.Level == "" && len(r.Restore.Subscriptions) == 0 {
		r.Restore = s.cfg.Directory.Restore(r.Session, r.Server)
	}
	healed := false // by any of the replicas that it was given
	for wait := askAgainMin; ; wait = min(2*wait, askAgainMax) {
		opened, err := s.askLeader(ctx, r)
		healed = healed || opened.Healed
		opened.Healed = healed
		switch {
		case err == nil && opened.Error != nil:
			return opened, nil
		case err == nil:
			s.cfg.Directory.Touch(r.Session, r.Until)
			if err = s.awaitRouted(ctx, &r, opened.Replica); err == nil {
				return opened, nil
			} else if ctx.Err() != nil {
				return fleet.SessionGiven{}, waitError(ctx, r.Server, err)
			}
		case ctx.Err() != nil:
			return fleet.SessionGiven{}, waitError(ctx, r.Server, err)
		case !again(err):
			return fleet.SessionGiven{}, err
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			pause.Stop()
			return fleet.SessionGiven{}, waitError(ctx, r.Server, err)
		case <-pause.C:
		}
	}
}

// awaitRouted waits until the router knows the replica, but not for long.
func (s *Service) awaitRouted(ctx context.Context, r *fleet.SessionRequest, replica fleet.ReplicaID) error {
	ctx, cancel := context.WithTimeout(ctx, routedWait)
	defer cancel()
	return s.cfg.Routed(ctx, r.Server, r.Session, replica)
}

// again reports whether another try may end otherwise, since the leader was not reached or
// has just lost its place.
func again(err error) bool {
	return errors.Is(err, fleet.ErrNoLeader) || errors.Is(err, fleet.ErrNotLeader) || errors.Is(err, fleet.ErrWorkerLost)
}

// waitError says what a session has waited for.
func waitError(ctx context.Context, server fleet.ServerName, last error) error {
	cause := context.Cause(ctx)
	if last == nil || errors.Is(last, cause) {
		return fmt.Errorf("server %q: %w while waiting for a replica for the session", server, cause)
	}
	return fmt.Errorf("server %q: %w while waiting for a replica for the session: %w", server, cause, last)
}

// askLeader asks the leader once.
func (s *Service) askLeader(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	leader, self, err := s.cfg.Leader()
	if err != nil {
		return fleet.SessionGiven{}, err
	}
	if self {
		return s.give(ctx, r)
	}
	c, err := s.leader.connect(leader)
	if err != nil {
		return fleet.SessionGiven{}, fmt.Errorf("%w: %w", fleet.ErrNoLeader, err)
	}
	order, _ := s.cfg.Order()
	return c.GiveSession(ctx, order, r)
}

// GiveSession opens a session for another controller. It fails with fleet.ErrNotLeader if
// this one does not lead.
func (s *Service) GiveSession(ctx context.Context, order fleet.Order, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	if err := s.checkCluster(order); err != nil {
		return fleet.SessionGiven{}, err
	}
	return s.give(ctx, r)
}

func (s *Service) give(ctx context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	t := s.tenure.Load()
	if t == nil {
		return fleet.SessionGiven{}, fmt.Errorf("open a session: %w", fleet.ErrNotLeader)
	}
	return t.give(ctx, r)
}

// End ends a session at all servers, at once. It returns without waiting for the
// replicas, which take no further call. until is when the session's lifetime is over.
func (s *Service) End(id fleet.SessionID, until time.Time) {
	s.cfg.Directory.End(id, until)
	snap := s.cfg.View.Snapshot()
	for _, r := range snap.Sorted() {
		if r.Session == id && r.Phase < fleet.PhaseDraining {
			s.metrics.ended.WithLabelValues(string(r.Server), endedByClient).Inc()
			s.closeSoon(snap, r, "the client has ended the session")
		}
	}
}

// closeSoon has the worker of a session's replica stop it. If that fails, the leader
// tries again.
func (s *Service) closeSoon(snap *observe.Snapshot, r *fleet.Replica, reason string) {
	worker := snap.Nodes[r.Node].Worker
	if worker == nil {
		return
	}
	s.closing.Go(func() { // bounded by its timeout; whoever ends the session does not wait
		ctx, cancel := context.WithTimeout(context.Background(), orderTimeout)
		defer cancel()
		if err := worker.CloseSession(ctx, r.ID, r.Session, reason); err != nil && !errors.Is(err, fleet.ErrUnknownReplica) {
			s.log.Info("replica of an ended session not stopped yet", "server", r.Server, "replica", r.ID, "err", err)
		}
	})
}

// Waiting returns how many sessions of each server wait for a spare. It is empty unless
// this controller leads.
func (s *Service) Waiting() map[fleet.ServerName]int {
	if t := s.tenure.Load(); t != nil {
		return t.waiting()
	}
	return nil
}

// Claimed reports whether a spare is being given to a session.
func (s *Service) Claimed(id fleet.ReplicaID) bool {
	t := s.tenure.Load()
	return t != nil && t.isClaimed(id)
}

// Subscribe posts a notice when Waiting may have changed; see notice.Board.
func (s *Service) Subscribe() (look <-chan struct{}, cancel func()) { return s.waiting.Subscribe() }
