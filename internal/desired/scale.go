package desired

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Scale sets the target of a server that does not scale by itself. The ETag does
// not cover the target.
type Scale struct {
	Name     fleet.ServerName `json:"name"`
	Replicas int              `json:"replicas"`
	Match    Match            `json:"match,omitzero"`
}

func (Scale) Tag() string        { return "scale" }
func (c Scale) Subject() Subject { return Subject{Server: c.Name} }
func (c Scale) String() string   { return "scale " + c.Subject().String() }

func (c Scale) apply(d *draft) error {
	sv, err := d.edit(c.Name)
	if err != nil {
		return err
	}
	if err := d.matchServer(c.Match, c.Name, sv); err != nil {
		return err
	}
	if sv.Spec.PerSession() {
		return fmt.Errorf("%w: server %s has a replica for each session (sessions: %s), so it cannot be scaled: change its warm or max_sessions",
			fleet.ErrConflict, c.Name, sv.Spec.Sessions)
	}
	if a := sv.Spec.Autoscaling; a != nil {
		return fmt.Errorf("%w: server %s scales by itself, from %d to %d replicas: set a floor with min_replicas and ttl, or change its autoscaling",
			fleet.ErrConflict, c.Name, a.MinReplicas, a.MaxReplicas)
	}
	if err := checkReplicas(c.Name, c.Replicas); err != nil {
		return err
	}
	if sv.Replicas == c.Replicas {
		return nil
	}
	d.scale(c.Name, sv, c.Replicas, "")
	return nil
}

// scale gives a copy of a stored server another target.
func (d *draft) scale(name fleet.ServerName, sv *Server, n int, reason string) {
	change := Change{Server: name, Kind: Scaled, Revision: sv.Revision, Fields: []Difference{counted("replicas", sv.Replicas, n)}, Reason: reason}
	sv.Replicas = n
	d.put(name, sv, change)
}

func counted(name string, from, to int) Difference {
	return Difference{Field: name, From: strconv.Itoa(from), To: strconv.Itoa(to)}
}

// SetTarget sets the target of a server that scales by itself. The leader writes
// it. It is ignored if the server is gone, or a user has written its spec since the
// decision was made.
type SetTarget struct {
	Name     fleet.ServerName `json:"name"`
	Replicas int              `json:"replicas"`
	Written  uint64           `json:"written"` // of the server when the decision was made
	Reason   string           `json:"reason"`
}

func (SetTarget) Tag() string        { return "target" }
func (c SetTarget) Subject() Subject { return Subject{Server: c.Name} }
func (c SetTarget) String() string   { return "set the target of " + c.Subject().String() }
func (SetTarget) needs() int         { return 3 }

func (c SetTarget) apply(d *draft) error {
	sv := d.next.Servers[c.Name]
	if sv == nil || sv.Spec.Autoscaling == nil || sv.Written != c.Written {
		return nil
	}
	if err := checkReplicas(c.Name, c.Replicas); err != nil {
		return err
	}
	if sv.Replicas == c.Replicas {
		return nil
	}
	next := *sv
	d.scale(c.Name, &next, c.Replicas, c.Reason)
	return nil
}

// SetFloor asks for a least number of replicas of a server that scales by itself,
// until a certain time. 0 removes the floor. A target below the floor is raised at
// once, unless a schedule has a cap: the leader knows when that holds, and decides. The
// ETag does not cover the floor.
type SetFloor struct {
	Name        fleet.ServerName `json:"name"`
	MinReplicas int              `json:"min_replicas"`
	Until       time.Time        `json:"until,omitzero"` // of a floor above 0
	Match       Match            `json:"match,omitzero"`
}

func (SetFloor) Tag() string        { return "floor" }
func (c SetFloor) Subject() Subject { return Subject{Server: c.Name} }
func (c SetFloor) String() string   { return "set a floor of " + c.Subject().String() }
func (SetFloor) needs() int         { return 3 }

func (c SetFloor) apply(d *draft) error {
	sv, err := d.edit(c.Name)
	if err != nil {
		return err
	}
	if err := d.matchServer(c.Match, c.Name, sv); err != nil {
		return err
	}
	floor, err := c.floor(d, sv)
	if err != nil {
		return err
	}
	if floor.MinReplicas == sv.Floor.MinReplicas && floor.Until.Equal(sv.Floor.Until) {
		return nil
	}
	fields := compare(floorFields(sv.Floor), floorFields(floor))
	sv.Floor = floor
	capped := slices.ContainsFunc(sv.Spec.Autoscaling.Schedules, func(s fleet.ScalingSchedule) bool { return s.MaxReplicas != nil })
	if sv.Replicas < floor.MinReplicas && !capped {
		fields = append(fields, counted("replicas", sv.Replicas, floor.MinReplicas))
		sv.Replicas = floor.MinReplicas
	}
	d.put(c.Name, sv, Change{Server: c.Name, Kind: FloorSet, Revision: sv.Revision, Fields: fields})
	return nil
}

// floor returns the floor that the command sets.
func (c SetFloor) floor(d *draft, sv *Server) (none fleet.Floor, err error) {
	a := sv.Spec.Autoscaling
	if sv.Spec.PerSession() {
		return none, fmt.Errorf("%w: server %s has a replica for each session (sessions: %s), so it has no floor: change its warm",
			fleet.ErrConflict, c.Name, sv.Spec.Sessions)
	}
	if a == nil {
		return none, fmt.Errorf("%w: server %s does not scale by itself, so it has no floor: scale it with replicas, or give it autoscaling",
			fleet.ErrConflict, c.Name)
	}
	if c.MinReplicas < 0 || c.MinReplicas > a.MaxReplicas {
		return none, fmt.Errorf("%w: server %s: min_replicas must be between 0 and %d, its max_replicas, not %d",
			fleet.ErrInvalid, c.Name, a.MaxReplicas, c.MinReplicas)
	}
	if c.MinReplicas == 0 {
		return none, nil
	}
	if err := checkTime(c.Until); err != nil {
		return none, fmt.Errorf("%w: server %s: floor: %w", fleet.ErrInvalid, c.Name, err)
	}
	if !c.Until.After(d.now) {
		return none, fmt.Errorf("%w: server %s: a floor needs an end that is not past", fleet.ErrInvalid, c.Name)
	}
	return fleet.Floor{MinReplicas: c.MinReplicas, Until: plainTime(c.Until)}, nil
}

func floorFields(f fleet.Floor) []field {
	none := f.MinReplicas == 0
	return []field{
		{name: "floor.min_replicas", text: jsonUnless(none, f.MinReplicas)},
		{name: "floor.until", text: jsonUnless(none, f.Until)},
	}
}

// retarget sets the target of a server whose spec was written. old is the server
// before, or nil.
func (d *draft) retarget(sv, old *Server) {
	a := sv.Spec.Autoscaling
	switch {
	case a == nil && (old == nil || old.Spec.Autoscaling != nil || old.Spec.Replicas != sv.Spec.Replicas):
		sv.Replicas, sv.Floor = sv.Spec.Replicas, fleet.Floor{} // else a scale stays in force
	case a == nil:
	case old == nil:
		sv.Replicas = a.Initial()
	case old.Spec.Autoscaling == nil, old.Spec.Autoscaling.MinReplicas != a.MinReplicas, old.Spec.Autoscaling.MaxReplicas != a.MaxReplicas:
		sv.Replicas = fleet.Clamp(sv.Replicas, max(a.MinReplicas, sv.Floor.At(d.now)), a.MaxReplicas)
	}
}

// checkCounts refuses numbers of replicas that no server may have.
func checkCounts(name fleet.ServerName, spec *fleet.Spec) error {
	a := spec.Autoscaling
	switch {
	case spec.PerSession() && (a != nil || spec.Replicas != 0 || spec.MaxSessions < 1 || spec.SessionIdle <= 0 || spec.SessionLifetime <= 0):
		return fmt.Errorf("%w: server %s: with sessions: %s it needs max_sessions, session_idle and session_lifetime, and no replicas",
			fleet.ErrInvalid, name, spec.Sessions)
	case a == nil:
		return checkReplicas(name, spec.Replicas)
	}
	if n := a.Initial(); a.MinReplicas < 0 || n < a.MinReplicas || n > a.MaxReplicas || a.MaxReplicas < 1 || a.MaxReplicas > MaxReplicas {
		return fmt.Errorf("%w: server %s: autoscaling: need 0 <= min_replicas (%d) <= initial_replicas (%d) <= max_replicas (%d) <= %d",
			fleet.ErrInvalid, name, a.MinReplicas, n, a.MaxReplicas, MaxReplicas)
	}
	return nil
}

func checkReplicas(name fleet.ServerName, n int) error {
	if n < 0 || n > MaxReplicas {
		return fmt.Errorf("%w: server %s: replicas must be between 0 and %d, not %d", fleet.ErrInvalid, name, MaxReplicas, n)
	}
	return nil
}
