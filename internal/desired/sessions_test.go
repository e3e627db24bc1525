package desired

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func perSession(edit func(*fleet.Spec)) fleet.Spec {
	s := fleet.Spec{
		Template:    fleet.Template{Image: "i", Sessions: fleet.SessionsSession},
		MaxSessions: 9, SessionIdle: time.Minute, SessionLifetime: time.Hour, OnLoss: fleet.OnLossReinit,
	}
	if edit != nil {
		edit(&s)
	}
	return s
}

// The number of replicas of a server with sessions is nobody's to set.
func TestServersWithSessionsAreNotScaled(t *testing.T) {
	s := (&State{}).DryRun(noon, put("x", perSession(nil))).State
	if got := s.List()[0]; got.Target != (fleet.Target{By: fleet.BySessions}) || got.Target.Stopped() || got.Target.Idle() || got.Offers {
		t.Errorf("got %+v", got)
	}
	for _, c := range []Command{Scale{Name: "x", Replicas: 2}, SetFloor{Name: "x", MinReplicas: 1, Until: noon.Add(time.Hour)}} {
		if r := s.DryRun(noon, c); !errors.Is(r.Err, fleet.ErrConflict) || !strings.Contains(r.Err.Error(), "a replica for each session") {
			t.Errorf("%s: %v", c, r.Err)
		}
	}
	for _, edit := range []func(*fleet.Spec){
		func(s *fleet.Spec) { s.Replicas = 1 }, func(s *fleet.Spec) { s.Autoscaling = &fleet.Autoscaling{MaxReplicas: 1} },
		func(s *fleet.Spec) { s.MaxSessions = 0 }, func(s *fleet.Spec) { s.SessionIdle = 0 },
	} {
		if r := s.DryRun(noon, put("x", perSession(edit))); !errors.Is(r.Err, fleet.ErrInvalid) {
			t.Errorf("%+v: %v", perSession(edit), r.Err)
		}
	}
	offering := s.DryRun(noon, SetCatalogue{Name: "x", Revision: 1, Catalogue: &fleet.Catalogue{Hash: "h"}}).State
	if !offering.List()[0].Offers {
		t.Error("what the revision offers is not known")
	}
}

// Another mode is another revision. The bounds of sessions apply in place.
func TestChangesOfSessions(t *testing.T) {
	s := (&State{}).DryRun(noon, put("x", perSession(nil))).State
	tuned := s.DryRun(noon, put("x", perSession(func(s *fleet.Spec) { s.MaxSessions, s.OnLoss = 3, fleet.OnLossNotFound })))
	if c := tuned.Changes; len(c) != 1 || c[0].Kind != Tuned || c[0].Revision != 1 {
		t.Errorf("other bounds: %+v", c)
	}
	shared := s.DryRun(noon, put("x", fleet.Spec{Template: fleet.Template{Image: "i", Sessions: fleet.SessionsShared}, Replicas: 2}))
	if c := shared.Changes; len(c) != 1 || c[0].Kind != Updated || c[0].Revision != 2 || shared.State.List()[0].Target != (fleet.Target{Replicas: 2}) {
		t.Errorf("another mode: %+v, target %+v", c, shared.State.List()[0].Target)
	}
}

// A server of the modern era has no sessions. It is a shared one, and its next revision is
// taken to be until somebody has asked it.
func TestModernServersHaveNoSessions(t *testing.T) {
	s := (&State{}).DryRun(noon, put("x", perSession(nil))).State
	offers := func(rev fleet.Revision, era fleet.Era) fleet.Server {
		t.Helper()
		r := s.DryRun(noon, SetCatalogue{Name: "x", Revision: rev, Catalogue: &fleet.Catalogue{Hash: string(era), Era: era}})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		s = r.State
		return s.List()[0]
	}
	one := fleet.Target{Replicas: 1, By: fleet.BySessions}
	if got := offers(1, fleet.EraModern); got.Spec.PerSession() || !got.Sessionless || got.Target != one {
		t.Errorf("a modern server: %+v", got)
	}
	if !s.Servers["x"].Spec.PerSession() {
		t.Error("the spec has changed")
	}
	s = s.DryRun(noon, EndRollout{Name: "x", Revision: 1}).State
	s = s.DryRun(noon, put("x", perSession(func(s *fleet.Spec) { s.Image = "i2" }))).State
	if got := s.List()[0]; got.Spec.PerSession() || got.Target != one || got.Offers || got.StableTemplate.PerSession() {
		t.Errorf("the next revision: %+v, stable %+v", got, got.StableTemplate)
	}
	if got := offers(2, fleet.EraLegacy); !got.Spec.PerSession() || got.Sessionless || got.Target.Replicas != 0 || got.StableTemplate.PerSession() {
		t.Errorf("the next revision is a legacy one: %+v, stable %+v", got, got.StableTemplate)
	}
}
