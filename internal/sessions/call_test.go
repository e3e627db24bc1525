package sessions

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// scripted is a Router whose calls end as the errors say, one after the other.
type scripted struct {
	errs  []error
	calls []fleet.Call
}

func (r *scripted) PerSession(fleet.ServerName) (time.Duration, bool) { return time.Minute, true }

func (r *scripted) Call(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
	r.calls = append(r.calls, c)
	return fleet.CallResult{}, r.errs[len(r.calls)-1]
}

// A call without a session gets one, which ends with it and is forgotten soon. It gets
// another one if its replica is lost, but not twice, and only if it may run twice.
func TestCaller(t *testing.T) {
	lost := fmt.Errorf("replica: %w", fleet.ErrReplicaLost)
	for _, c := range []struct {
		name       string
		idempotent bool
		errs       []error
		err        error
	}{
		{"answered", false, []error{nil}, nil},
		{"lost", false, []error{lost}, fleet.ErrReplicaLost},
		{"lost before it came", false, []error{fleet.ErrSessionLost}, fleet.ErrReplicaLost},
		{"lost and sent again", true, []error{lost, nil}, nil},
		{"lost twice", true, []error{lost, lost}, fleet.ErrReplicaLost},
		{"refused", true, []error{fleet.ErrOverloaded}, fleet.ErrOverloaded},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, 2, 2, nil)
				one := w.controllers[1]
				r := &scripted{errs: c.errs}
				caller := &Caller{Router: r, Sessions: one.service}
				if _, err := caller.Call(t.Context(), fleet.Call{Server: "a", Caller: fleet.Anonymous, Idempotent: c.idempotent}); !errors.Is(err, c.err) {
					t.Errorf("got %v, want %v", err, c.err)
				}
				if len(r.calls) != len(c.errs) {
					t.Errorf("%d calls, want %d", len(r.calls), len(c.errs))
				}
				for _, call := range r.calls {
					if call.Session == "" || !one.directory.Ended(call.Session) {
						t.Errorf("session %q lives on", call.Session)
					}
				}
				time.Sleep(fleet.OnceKept + purgePeriod)
				synctest.Wait()
				if !w.settled(0, 1) {
					t.Errorf("afterwards: %+v", w.running())
				}
				for _, of := range w.controllers {
					of.directory.Touch("another", time.Now().Add(time.Hour)) // makes room
					if n := len(of.directory.records); n != 1 {
						t.Errorf("%s remembers %d sessions", of.name, n-1)
					}
				}
			})
		})
	}
}
