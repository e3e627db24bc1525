package desired

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// List returns all servers, sorted by name, in the form that running them and
// routing to them needs.
func (s *State) List() []fleet.Server {
	if s == nil {
		return nil
	}
	list := make([]fleet.Server, 0, len(s.Servers))
	for _, name := range slices.Sorted(maps.Keys(s.Servers)) {
		list = append(list, s.Servers[name].Fleet(name))
	}
	return list
}

// Fleet returns the server in the form that List returns.
func (sv *Server) Fleet(name fleet.ServerName) fleet.Server {
	out := fleet.Server{
		Name: name, Revision: sv.Revision, Spec: sv.Spec, Target: sv.Target(), Generation: sv.Generation,
		Failed: sv.Failed, Floor: sv.Floor, Written: sv.Written, Offers: sv.Catalogue(sv.Revision) != nil,
	}
	if c := sv.Catalogue(sv.Revision); c != nil {
		out.Era = c.Era
	}
	if r := sv.Rollout; r != nil {
		out.Rollout = &fleet.Rollout{
			From: r.From, Started: r.Started, Paused: r.Paused, Held: r.Held, Checked: r.Checked, Warning: r.Warning,
			Step: r.Step,
		}
	}
	if sv.Stable != 0 && sv.Stable != sv.Revision {
		if rev := sv.Kept(sv.Stable); rev != nil {
			out.Stable, out.StableTemplate, out.StableOffers = rev.Number, &rev.Template, rev.Catalogue != nil
			if isSessionless(&rev.Template, rev.Catalogue) {
				shared := rev.Template
				shared.Sessions = fleet.SessionsShared
				out.StableTemplate = &shared
			}
		}
	}
	if sv.Sessionless() {
		out.Sessionless, out.Spec.Sessions = true, fleet.SessionsShared
	}
	return out
}

// Sessionless reports whether the server needs no sessions, although its spec wants a
// replica for each: it is of the modern era. As long as nobody has asked its present
// revision, that is taken to be as the stable one.
func (sv *Server) Sessionless() bool {
	c := sv.Catalogue(sv.Revision)
	if c == nil {
		c = sv.Catalogue(sv.Stable)
	}
	return isSessionless(&sv.Spec.Template, c)
}

func isSessionless(t *fleet.Template, offers *fleet.Catalogue) bool {
	return t.PerSession() && offers != nil && offers.Era == fleet.EraModern
}

// Target returns how many replicas are wanted now, and who asked for them. Who
// did is not stored: a scale to the number of the spec is the spec's.
func (sv *Server) Target() fleet.Target {
	t := fleet.Target{Replicas: sv.Replicas}
	switch {
	case sv.Sessionless():
		return fleet.Target{Replicas: 1, By: fleet.BySessions}
	case sv.Spec.PerSession():
		return fleet.Target{By: fleet.BySessions}
	case sv.Spec.Autoscaling != nil:
		t.By = fleet.ByAutoscaling
	case sv.Replicas != sv.Spec.Replicas:
		t.By = fleet.ByScale
	}
	return t
}

// Default returns the server that bare tool names belong to: the one that was
// written, or the only one, or "".
func (s *State) Default() fleet.ServerName {
	if s == nil {
		return ""
	}
	if s.DefaultServer == "" && len(s.Servers) == 1 {
		for name := range s.Servers {
			return name
		}
	}
	return s.DefaultServer
}

// ETag identifies the set of servers as users wrote it, without quotes.
func (s *State) ETag() string {
	if s == nil {
		s = &State{}
	}
	return etag(s.Incarnation, s.Written)
}

// ETag identifies the server as users wrote it, in an incarnation of the
// cluster, without quotes.
func (sv *Server) ETag(inc fleet.Incarnation) string { return etag(inc, sv.Written) }

func etag(inc fleet.Incarnation, written uint64) string { return fmt.Sprintf("%d.%d", inc, written) }

// Order returns the order of the present or last tenure.
func (s *State) Order() fleet.Order {
	if s == nil {
		return fleet.Order{}
	}
	return fleet.Order{Cluster: s.Cluster, Incarnation: s.Incarnation, Epoch: s.Lead.Term}
}
