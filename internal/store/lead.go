package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var (
	errNoLongerLeader = errors.New("no longer the leader")
	errPaused         = errors.New("paused long enough")
)

// Lead calls tenure each time this controller has become the leader and its first
// entry is applied. The tenure's context ends when leadership does. Workers accept
// its order until the next leader's. Lead waits for the tenure to return before
// it begins the next, so two never overlap. A tenure that returns early is not
// called again in its term. Lead returns nil when ctx ends or the store is closed,
// and an error when the store has failed.
func (s *Store) Lead(ctx context.Context, tenure func(ctx context.Context, order fleet.Order)) error {
	for {
		term, err := s.waitRole(ctx, func(term uint64, leads bool) bool { return leads })
		if err != nil {
			return s.ended()
		}
		res, err := s.beginTenure(ctx)
		if err != nil {
			s.log.Debug("tenure did not begin", "term", term, "err", err)
			s.beginnings.failed(err, term, s.State().Lead.Index, time.Now())
			// Leadership is gone again, or raft is handing it over.
			if err := s.pause(ctx, term); err != nil {
				return s.ended()
			}
			continue
		}
		if err := s.runTenure(ctx, res, tenure); err != nil {
			return s.ended()
		}
	}
}

// beginTenure writes the entry that begins a tenure. The first one founds the
// cluster.
func (s *Store) beginTenure(ctx context.Context) (desired.Result, error) {
	cluster := s.Cluster()
	if cluster == "" {
		cluster = fleet.NewClusterID()
	}
	return s.commit(ctx, desired.BeginTenure{
		Controller: s.ID(), Name: s.cfg.Name, Cluster: cluster, Expect: max(s.cfg.Expect, 1),
		Incarnation: s.net.layer.incarnation(),
	})
}

// runTenure returns nil when leadership has ended, or the error that ends Lead.
func (s *Store) runTenure(ctx context.Context, res desired.Result, tenure func(context.Context, fleet.Order)) error {
	order := res.State.Order()
	s.log.Info("leading", "term", res.Term, "cluster", order.Cluster, "incarnation", uint64(order.Incarnation))
	during, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tenure(during, order)
	}()
	_, err := s.waitRole(ctx, func(now uint64, leads bool) bool { return !leads || now != res.Term })
	cause := err
	if cause == nil {
		cause = errNoLongerLeader
	}
	cancel(cause)
	<-done
	s.log.Info("no longer leading", "term", res.Term, "reason", cause)
	return err
}

// pause waits until leadership of the term is lost, for a short time at most.
func (s *Store) pause(ctx context.Context, term uint64) error {
	short, cancel := context.WithTimeoutCause(ctx, 100*time.Millisecond, errPaused)
	defer cancel()
	_, err := s.waitRole(short, func(now uint64, leads bool) bool { return !leads || now != term })
	if errors.Is(err, errPaused) {
		return nil
	}
	return err
}

// waitRole waits until the condition holds for the term and the role.
func (s *Store) waitRole(ctx context.Context, is func(term uint64, leads bool) bool) (term uint64, err error) {
	for {
		moved := s.pulse.wait()
		term, leads := s.leaderTerm()
		if is(term, leads) {
			return term, nil
		}
		select {
		case <-moved:
		case <-s.broken:
			return 0, s.err
		case <-s.shut:
			return 0, errClosed
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// ended returns the result of Lead: an error only if the store has failed.
func (s *Store) ended() error {
	select {
	case <-s.broken:
		return fmt.Errorf("desired state: %w", s.err)
	default:
		return nil
	}
}
