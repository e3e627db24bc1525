package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// untilTold is how long a call whose fate hangs on it waits for the news of
	// how a replica ended.
	untilTold = 2 * time.Second
	// maxDeaths bounds how many deaths wait for news.
	maxDeaths = 64
)

// death is the end of one replica with calls inside.
type death struct {
	told chan struct{} // closed when it is known how the replica ended

	// Guarded by the server's mutex.
	solved  bool // what did it is known: calls that are still suspect are innocent
	outside bool // it was no call
	at      time.Time
	keys    []callKey // of the calls that were inside
}

// await waits until it is known how the replica ended, but not for long.
func (d *death) await(ctx context.Context) {
	timer := time.NewTimer(untilTold)
	defer timer.Stop()
	select {
	case <-d.told:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isDeath reports whether a call's error says that its replica died.
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
		r.death = &death{told: make(chan struct{}), at: now}
		s.awaitNews(r.id, r.death)
	}
	r.skipUntil, s.uneven = now.Add(skipFor), true // until the view tells
	if s.apart.attempt == a {
		s.endIsolation()
	}
	if a.suspect != nil {
		s.apart.lastDeath = now
		time.AfterFunc(pauseSuspects, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drain()
		})
	}
	s.drain()
	return r.death
}

// died records that a replica died with the call inside. deaths are those that
// it was inside of earlier, repeats counts what else it was repeated for. It
// returns why the call may be repeated, as a suspect, or the error that ends it.
func (s *server) died(a *attempt, d *death, c *fleet.Call, before *suspect, deaths []*death, repeats int, err error) (*suspect, error) {
	key := keyOf(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	amongOthers := false // it was a suspect, and not alone
	switch {
	case before == nil || before.death == nil:
	case before.death.solved:
		before = nil // another call did that
	case a.suspect == nil:
		before, amongOthers = nil, true // another call may have done this
	}
	guilty := false
	switch {
	case d.outside:
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
	case !d.outside && before != nil && before.death != nil:
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("%w; %s", err, textRepeated)
	case !d.outside && (before != nil || guilty):
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("%w; %s", err, textTakenTwice)
	case repeats+unsolved(deaths) >= maxRepeats || len(deaths) >= maxReroutes:
		return nil, err
	}
	s.metrics.suspects.Inc()
	return &suspect{key: key, death: d, began: a.since, ran: now.Sub(a.since), giveUp: now.Add(aloneWithin)}, nil
}

// The functions below need s.mu held.

// unsolved counts the deaths of which it is not known what did them.
func unsolved(deaths []*death) (n int) {
	for _, d := range deaths {
		if !d.solved {
			n++
		}
	}
	return n
}

// awaitNews remembers a death until it is known how the replica ended.
func (s *server) awaitNews(id fleet.ReplicaID, d *death) {
	if s.deaths == nil {
		s.deaths = make(map[fleet.ReplicaID]*death)
	}
	for old, o := range s.deaths {
		if d.at.Sub(o.at) > time.Minute || len(s.deaths) >= maxDeaths {
			delete(s.deaths, old)
		}
	}
	s.deaths[id] = d
	s.learn(s.limits.Ends) // the news may have been faster
}

// solve records which call a death was due to: the others that were inside are
// innocent, and may be repeated should their next replica die as well.
func (s *server) solve(d *death, guilty callKey) {
	d.solved = true
	for _, k := range d.keys {
		if k != guilty {
			s.blame.clear(k)
		}
	}
	d.keys = nil
}

// learn takes in how replicas ended. Those who were inside one that was ended
// from outside are innocent.
func (s *server) learn(ends []End) {
	if len(s.deaths) == 0 {
		return
	}
	for _, e := range ends {
		d := s.deaths[e.ID]
		if d == nil {
			continue
		}
		delete(s.deaths, e.ID)
		if d.outside = e.FromOutside; d.outside {
			d.solved = true
			for _, k := range d.keys {
				s.blame.clear(k)
			}
			d.keys = nil
		}
		close(d.told)
	}
}
