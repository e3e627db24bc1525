package sessions

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe/observetest"
)

// Sessions open, are ended and go on at random controllers, while replicas crash, workers
// are cut off, leaders change, and the network loses, delays and repeats orders. No
// replica ever has two sessions. When all is quiet, each session has one replica, as many
// spares wait as wanted, and nothing else runs.
func TestSessionsUnderFire(t *testing.T) {
	seeds := uint64(5)
	if _, bounded := t.Deadline(); !bounded {
		seeds = 100
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { underFire(t, seed) })
		})
	}
}

func underFire(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	w := newWorld(t, seed, 4, 3, func(s *fleet.Spec) { s.Warm = 2 })
	w.net.SetFaults(observetest.Faults{
		DropOrder: 0.2, DropAnswer: 0.2, Duplicate: 0.2, BreakStream: 0.01, OrderDelay: 300 * time.Millisecond, ReportDelay: 200 * time.Millisecond,
	})
	owner := make(map[fleet.ReplicaID]fleet.SessionID) // that each replica ever had
	check := func() {
		for _, r := range w.running() {
			if had := owner[r.ID]; r.Session != "" && had != "" && had != r.Session {
				t.Fatalf("replica %s went from session %s to %s", r.ID, had, r.Session)
			} else if r.Session != "" {
				owner[r.ID] = r.Session
			}
		}
	}
	pause := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			check()
		}
	}
	var opening sync.WaitGroup
	var live []fleet.SessionID
	open := func(id fleet.SessionID) {
		c := w.controllers[rnd.IntN(len(w.controllers))]
		opening.Go(func() {
			if _, err := c.open(id, 2*time.Minute); err != nil && !errors.Is(err, fleet.ErrSessionLost) && !errors.Is(err, fleet.ErrReplicaLost) {
				t.Errorf("open %s at %s: %v", id, c.name, err)
			}
		})
	}
	for range 40 {
		pause(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		switch rnd.IntN(8) {
		case 0, 1, 2:
			if len(live) < 8 {
				live = append(live, fleet.NewSessionID())
				open(live[len(live)-1])
			}
		case 3:
			if len(live) > 0 { // its client goes on, through two controllers at once
				id := live[rnd.IntN(len(live))]
				open(id)
				open(id)
			}
		case 4:
			if len(live) > 0 {
				i := rnd.IntN(len(live))
				w.controllers[rnd.IntN(len(w.controllers))].service.End(live[i], time.Now().Add(time.Hour))
				live = append(live[:i:i], live[i+1:]...)
			}
		case 5:
			if all := w.running(); len(all) > 0 {
				victim := all[rnd.IntN(len(all))].ID
				for _, n := range w.workers {
					n.End(victim)
				}
			}
		case 6:
			n := w.workers[rnd.IntN(len(w.workers))]
			n.Cut(true)
			time.AfterFunc(time.Duration(rnd.IntN(15000))*time.Millisecond, func() { n.Cut(false) })
		case 7:
			w.lead(w.controllers[rnd.IntN(len(w.controllers))])
		}
	}
	pause(30 * time.Second)
	w.net.SetFaults(observetest.Faults{})
	opening.Wait()
	for _, id := range live {
		open(id)
	}
	opening.Wait()
	w.until(time.Minute, fmt.Sprintf("%d sessions and 2 spares", len(live)), func() bool { check(); return w.settled(len(live), 2) })
	pause(30 * time.Second)
	if !w.settled(len(live), 2) {
		t.Errorf("a quiet fleet changed: %+v", w.running())
	}
}
