package sessions

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// A session that is not used ends after session_idle, one that is used after
// session_lifetime. Use at any controller counts.
func TestIdleAndLifetime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2, 2, func(s *fleet.Spec) { s.SessionIdle, s.SessionLifetime = time.Minute, time.Hour })
		used, called := fleet.NewSessionID(), fleet.NewSessionID()
		idle := fleet.NewSessionID()
		var replica fleet.ReplicaID
		for _, id := range []fleet.SessionID{used, called, idle} {
			given, err := w.controllers[1].open(id, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if id == called {
				replica = given.Replica
			}
		}
		began := time.Now()
		for calls := uint64(1); time.Since(began) < 59*time.Minute; calls++ {
			time.Sleep(30 * time.Second)
			w.controllers[1].directory.Touch(used, time.Time{})
			for _, n := range w.workers {
				n.Set(replica, func(r *fleet.Replica) { r.Load.Total = calls })
			}
			if owned, _ := w.owners(); len(owned[used]) != 1 || len(owned[called]) != 1 {
				t.Fatalf("after %v of use: %v", time.Since(began), owned)
			} else if there, took := len(owned[idle]) == 1, time.Since(began); took < 50*time.Second && !there || took > 70*time.Second && there {
				t.Fatalf("the idle one after %v: %v", took, owned)
			}
		}
		time.Sleep(2 * time.Minute)
		if !w.settled(0, 1) {
			t.Errorf("after the lifetime: %+v", w.running())
		}
		for _, c := range w.controllers {
			if _, err := c.open(used, time.Second); !errors.Is(err, fleet.ErrSessionLost) {
				t.Errorf("a session that is over opens at %s: %v", c.name, err)
			}
		}
	})
}

// The lifetime goes on when the session gets a fresh replica, and under another leader. A
// new leader does not take a session for idle whose calls it has not seen.
func TestLifetimeGoesOn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 2, func(s *fleet.Spec) { s.SessionIdle, s.SessionLifetime = 10*time.Minute, time.Hour })
		id, began := fleet.NewSessionID(), time.Now()
		given, err := w.controllers[1].open(id, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		use := func(until time.Duration) {
			for calls := uint64(1); time.Since(began) < until; calls++ {
				time.Sleep(5 * time.Minute)
				for _, n := range w.workers {
					n.Set(given.Replica, func(r *fleet.Replica) { r.Load.Total += calls })
				}
			}
		}
		use(30 * time.Minute)
		w.lead(w.controllers[1])
		time.Sleep(time.Minute)
		if owned, _ := w.owners(); len(owned[id]) != 1 {
			t.Fatalf("under another leader: %v", owned)
		}
		for _, n := range w.workers {
			n.End(given.Replica)
		}
		time.Sleep(time.Second)
		if given, err = w.controllers[0].open(id, time.Minute); err != nil || !given.Healed {
			t.Fatalf("after the loss: %+v, %v", given, err)
		}
		use(58 * time.Minute)
		if owned, _ := w.owners(); time.Since(began) < time.Hour && len(owned[id]) != 1 {
			t.Errorf("before the lifetime is over: %v", owned)
		}
		time.Sleep(time.Until(began.Add(time.Hour + time.Minute)))
		if !w.settled(0, 1) {
			t.Errorf("after the lifetime: %+v", w.running())
		}
	})
}

// A session that was ended at one controller is over at all, and its replica goes.
func TestEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2, 3, nil)
		id := fleet.NewSessionID()
		if _, err := w.controllers[1].open(id, time.Minute); err != nil {
			t.Fatal(err)
		}
		w.controllers[2].service.End(id, time.Now().Add(time.Hour))
		time.Sleep(time.Second)
		if !w.settled(0, 1) {
			t.Errorf("after the end: %+v", w.running())
		}
		for _, c := range w.controllers {
			if !c.directory.Ended(id) {
				t.Errorf("%s does not know that it ended", c.name)
			}
		}
	})
}

func TestBoundsOfSessions(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2, 1, func(s *fleet.Spec) { s.MaxSessions, s.SessionsEach = 3, 2 })
		c := w.controllers[0]
		for range 2 {
			if _, err := c.open(fleet.NewSessionID(), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.open(fleet.NewSessionID(), time.Minute); !errors.Is(err, fleet.ErrOverloaded) || !strings.Contains(err.Error(), "max_sessions_per_principal is 2") {
			t.Errorf("a third of one caller: %v", err)
		}
		w.desired.edit(func(s *fleet.Spec) { s.SessionsEach = 0 })
		if _, err := c.open(fleet.NewSessionID(), time.Minute); err != nil {
			t.Errorf("a third one: %v", err)
		}
		if _, err := c.open(fleet.NewSessionID(), time.Minute); !errors.Is(err, fleet.ErrOverloaded) || !strings.Contains(err.Error(), "max_sessions is 3") {
			t.Errorf("a fourth one: %v", err)
		}
		time.Sleep(time.Second)
		if !w.settled(3, 0) {
			t.Errorf("at the bound: %+v", w.running())
		}
	})
}

// With on_loss: 404 a session ends with its replica, and its client is told.
func TestOnLoss(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 3, 2, nil)
		id := fleet.NewSessionID()
		first, err := w.controllers[1].open(id, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		lose := func(id fleet.ReplicaID) {
			for _, n := range w.workers {
				n.End(id)
			}
			time.Sleep(time.Second)
		}
		lose(first.Replica)
		second, err := w.controllers[1].open(id, time.Minute)
		if err != nil || !second.Healed || second.Replica == first.Replica {
			t.Errorf("after the loss: %+v, %v", second, err)
		}
		w.desired.edit(func(s *fleet.Spec) { s.OnLoss = fleet.OnLossNotFound })
		lose(second.Replica)
		if _, err := w.controllers[1].open(id, time.Minute); !errors.Is(err, fleet.ErrSessionLost) {
			t.Errorf("after the loss with 404: %v", err)
		}
		time.Sleep(time.Second)
		if !w.settled(0, 1) || !w.controllers[1].directory.Ended(id) {
			t.Errorf("after the end: %+v", w.running())
		}
	})
}

// A spare that ends while a session gets it costs the session nothing. If another one does,
// too, the client's initialize may be the cause, and the session is refused.
func TestSparesThatEnd(t *testing.T) {
	for deaths, want := range map[int]error{1: nil, 2: fleet.ErrReplicaLost} {
		bubble.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, 1, 1, func(s *fleet.Spec) { s.Warm = 3 })
			time.Sleep(time.Second)
			w.workers[0].EndOpened(deaths)
			given, err := w.controllers[0].open(fleet.NewSessionID(), time.Minute)
			if !errors.Is(err, want) {
				t.Errorf("%d deaths: %+v, %v; want %v", deaths, given, err, want)
			}
		})
	}
}

// A replica that is lost before the controller knows of it is replaced.
func TestLostBeforeItIsKnown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 2, 2, nil)
		one := w.controllers[1]
		routed := one.service.cfg.Routed
		var first fleet.ReplicaID
		one.service.cfg.Routed = func(ctx context.Context, server fleet.ServerName, session fleet.SessionID, id fleet.ReplicaID) error {
			if first == "" {
				first = id
				for _, n := range w.workers {
					n.End(id)
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}
			return routed(ctx, server, session, id)
		}
		given, err := one.open(fleet.NewSessionID(), 10*time.Second)
		if err != nil || given.Replica == first {
			t.Errorf("got %+v, %v; want another replica than %s", given, err, first)
		}
	})
}
