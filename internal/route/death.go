package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// maxAwaitCause is how long a call waits to learn how its replica ended, if
	// that decides whether the call is repeated.
	maxAwaitCause = 2 * time.Second
	// maxDeaths bounds the deaths whose cause is awaited.
	maxDeaths = 64
)

// death is the end of a replica with calls inside.
type death struct {
	known chan struct{} // closed when it is known how the replica ended

	// Guarded by the server's mutex.
	solved   bool // the cause is known: calls that are still suspect are innocent
	external bool // the cause was not a call
	at       time.Time
	keys     []callKey // of the calls that were inside
}

// await waits until it is known how the replica ended, maxAwaitCause at most.
func (d *death) await(ctx context.Context) {
	timer := time.NewTimer(maxAwaitCause)
	defer timer.Stop()
	select {
	case <-d.known:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isDeath reports whether err means that the call's replica died.
func isDeath(err error) bool {
	return errors.Is(err, fleet.ErrReplicaLost) && !errors.Is(err, fleet.ErrWorkerLost)
}

// deathOf returns the death of the replica that a call was inside of.
func (s *server) deathOf(a *attempt) *death {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	r := a.replica
	if r.death == nil {
		r.death = &death{known: make(chan struct{}), at: now}
		s.trackDeath(r.id, r.death)
	}
	r.skipUntil, s.uneven = now.Add(skipFor), true // until the view changes
	if s.isolation.attempt == a {
		s.endIsolation()
	}
	if a.suspect != nil {
		s.isolation.lastDeath = now
		time.AfterFunc(pauseSuspects, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drain()
		})
	}
	s.drain()
	return r.death
}

// recordDeath records that a replica died with the call inside. deaths are the
// earlier ones of this call, and repeats counts its other repeats. recordDeath
// returns the suspect as which the call may be repeated, or the error that ends
// it.
func (s *server) recordDeath(a *attempt, d *death, c *fleet.Call, before *suspect, deaths []*death, repeats int, err error) (*suspect, error) {
	key := keyOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	amongOthers := false // it was a suspect, and not alone
	switch {
	case before == nil || before.death == nil:
	case before.death.solved:
		before = nil // another call caused that
	case a.suspect == nil:
		before, amongOthers = nil, true // another call may have caused this
	}
	guilty := false
	switch {
	case d.external:
	case d.solved:
		guilty = s.blame.guilty(key, now)
	case amongOthers:
		d.keys = append(d.keys, key)
	default:
		d.keys = append(d.keys, key)
		if guilty = s.blame.add(key, a.since, now, before != nil); guilty {
			s.solve(d, key)
			if a.suspect != nil && before != nil && before.death != nil {
				s.solve(before.death, key)
			}
			s.drain()
		}
	}
	switch {
	case !c.Idempotent:
		return nil, err
	case !d.external && before != nil && before.death != nil:
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("%w; %s", err, textRepeated)
	case !d.external && (before != nil || guilty):
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("%w; %s", err, textGuilty)
	case repeats+unsolved(deaths) >= maxRepeats || len(deaths) >= maxReroutes:
		return nil, err
	}
	s.metrics.suspects.Inc()
	return &suspect{key: key, death: d, began: a.since, ran: now.Sub(a.since), giveUp: now.Add(aloneWithin)}, nil
}

// The functions below need s.mu held.

// unsolved counts the deaths whose cause is not known.
func unsolved(deaths []*death) (n int) {
	for _, d := range deaths {
		if !d.solved {
			n++
		}
	}
	return n
}

// trackDeath keeps a death until it is known how the replica ended.
func (s *server) trackDeath(id fleet.ReplicaID, d *death) {
	if s.deaths == nil {
		s.deaths = make(map[fleet.ReplicaID]*death)
	}
	for old, o := range s.deaths {
		if d.at.Sub(o.at) > time.Minute || len(s.deaths) >= maxDeaths {
			delete(s.deaths, old)
		}
	}
	s.deaths[id] = d
	s.recordEnds(s.limits.Ends) // the report may have come first
}

// solve records which call caused a death. The others that were inside are
// innocent, and may be repeated if their next replica dies too.
func (s *server) solve(d *death, guilty callKey) {
	d.solved = true
	for _, k := range d.keys {
		if k != guilty {
			s.blame.clear(k)
		}
	}
	d.keys = nil
}

// recordEnds records how replicas ended. Calls that were inside a replica that
// ended for another reason are innocent.
func (s *server) recordEnds(ends []End) {
	if len(s.deaths) == 0 {
		return
	}
	for _, e := range ends {
		d := s.deaths[e.ID]
		if d == nil {
			continue
		}
		delete(s.deaths, e.ID)
		if d.external = e.FromOutside; d.external {
			d.solved = true
			for _, k := range d.keys {
				s.blame.clear(k)
			}
			d.keys = nil
		}
		close(d.known)
	}
}
