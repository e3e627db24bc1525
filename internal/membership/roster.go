package membership

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/leader"
)

const (
	// missedAfter is how long gossip takes to miss a controller that was killed.
	missedAfter = 6 * time.Second
	// knownWithin bounds how long a transfer waits until this controller knows
	// the new leader.
	knownWithin = 3 * time.Second
)

// Configuration is raft's configuration, and the means to change it by hand.
// Package store implements it.
type Configuration interface {
	State() *desired.State
	Members() ([]fleet.Voter, error)
	Leader() (id fleet.ControllerID, term fleet.Epoch, ok bool)
	Remove(id fleet.ControllerID) error
	Transfer(ctx context.Context, to fleet.ControllerID) error
	// ProblemOf says what keeps a controller from storing desired state, "" if
	// nothing is known to.
	ProblemOf(id fleet.ControllerID) string
}

// Roster lists the controllers of the cluster, and changes them by hand.
type Roster struct {
	cfg RosterConfig

	mu    sync.Mutex
	names map[fleet.ControllerID]fleet.NodeID // of those that are gone, too
}

// RosterConfig says what a Roster works with.
type RosterConfig struct {
	Store  Configuration
	Ring   leader.Ring
	Leader *leader.Finder
}

// NewRoster returns a Roster.
func NewRoster(cfg RosterConfig) *Roster {
	return &Roster{cfg: cfg, names: make(map[fleet.ControllerID]fleet.NodeID)}
}

// List returns the controllers as this one knows them, by name.
func (r *Roster) List(context.Context) (api.Controllers, error) {
	st := r.cfg.Store.State()
	out := api.Controllers{
		Cluster: st.Cluster, Incarnation: st.Incarnation, Term: st.Lead.Term, Expect: st.Expect,
		Controllers: []api.Controller{},
	}
	voters, err := r.cfg.Store.Members()
	if err != nil {
		return out, err
	}
	leads, term, led := r.cfg.Store.Leader()
	if led {
		out.Term = max(out.Term, term)
	}
	members := r.cfg.Ring.Members()
	byID := roles(voters, members, st.Cluster)
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, role := range byID {
		one := api.Controller{ID: id, Role: role, Leader: led && id == leads}
		if m, ok := fleet.FindController(members, id); ok {
			r.names[id] = m.Node
			one.HTTP, one.Raft, one.Alive, one.Version = m.HTTP, m.Raft, true, m.Version
			one.Problem = r.cfg.Store.ProblemOf(id)
		}
		one.Name = r.names[id]
		out.Controllers = append(out.Controllers, one)
	}
	slices.SortFunc(out.Controllers, func(a, b api.Controller) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// roles returns the controllers in raft's configuration, and those in the ring
// that may be taken into the cluster.
func roles(voters []fleet.Voter, members []fleet.Member, cluster fleet.ClusterID) map[fleet.ControllerID]string {
	out := make(map[fleet.ControllerID]string)
	for _, m := range members {
		if m.Role == fleet.RoleController && (cluster == "" || m.Cluster == "" || m.Cluster == cluster) {
			out[m.Controller] = api.ControllerJoining
		}
	}
	for _, v := range voters {
		out[v.ID] = api.ControllerNonvoter
		if v.Voting {
			out[v.ID] = api.ControllerVoter
		}
	}
	return out
}

// find returns the controller with a name or an id.
func (r *Roster) find(ctx context.Context, name string) (api.Controller, error) {
	list, err := r.List(ctx)
	if err != nil {
		return api.Controller{}, err
	}
	var found []api.Controller
	var known []string
	for _, one := range list.Controllers {
		known = append(known, cmp.Or(string(one.Name), string(one.ID)))
		if string(one.ID) == name {
			return one, nil
		}
		if one.Name != "" && string(one.Name) == name {
			found = append(found, one)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return api.Controller{}, fmt.Errorf("%w %q: there are %s", fleet.ErrUnknownController, name, strings.Join(known, ", "))
	}
	return api.Controller{}, fmt.Errorf("%w: several controllers are named %q, use the id: %s or %s",
		fleet.ErrConflict, name, found[0].ID, found[1].ID)
}

// Remove takes a controller that is gone out of the cluster for good. The error
// wraps fleet.ErrUnknownController, fleet.ErrConflict, or one of store.Propose.
func (r *Roster) Remove(ctx context.Context, name string) error {
	one, err := r.find(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case one.Role == api.ControllerJoining:
		return fmt.Errorf("%w: controller %s is no member of the cluster", fleet.ErrConflict, name)
	case one.Leader:
		return fmt.Errorf("%w: controller %s leads: transfer the leadership first", fleet.ErrConflict, name)
	}
	if !r.awaitGone(ctx, one.ID) {
		return fmt.Errorf("%w: controller %s is alive, and would be taken in again: stop it first", fleet.ErrConflict, name)
	}
	return r.cfg.Store.Remove(one.ID)
}

// awaitGone waits until gossip misses a controller. It reports whether it does.
func (r *Roster) awaitGone(ctx context.Context, id fleet.ControllerID) bool {
	changed, cancel := r.cfg.Ring.Subscribe()
	defer cancel()
	patience := time.NewTimer(missedAfter)
	defer patience.Stop()
	for {
		if _, alive := fleet.FindController(r.cfg.Ring.Members(), id); !alive {
			return true
		}
		select {
		case <-changed:
		case <-patience.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// Transfer hands leadership to a controller. It returns once this controller
// knows of the new leader, or after a while, so that the list that answers the
// request has a leader.
func (r *Roster) Transfer(ctx context.Context, name string) error {
	one, err := r.find(ctx, name)
	switch {
	case err != nil:
		return err
	case one.Leader:
		return nil
	case one.Role != api.ControllerVoter:
		return fmt.Errorf("%w: controller %s does not vote", fleet.ErrConflict, name)
	case !one.Alive:
		return fmt.Errorf("%w: controller %s is not alive", fleet.ErrConflict, name)
	}
	if err := r.cfg.Store.Transfer(ctx, one.ID); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	_ = r.cfg.Leader.Wait(ctx, func(l leader.Leader) bool { return l.ID == one.ID }) // the transfer is done all the same
	return nil
}
