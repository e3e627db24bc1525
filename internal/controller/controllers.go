package controller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// controllers shows who makes up the control plane, and changes it by hand.
type controllers struct {
	writes *writes

	mu    sync.Mutex
	names map[fleet.ControllerID]fleet.NodeID // also of those that are gone
}

// List implements httpapi.Controllers.
func (c *controllers) List(context.Context) (api.Controllers, error) {
	st := c.writes.State()
	out := api.Controllers{
		Cluster: st.Cluster, Incarnation: st.Incarnation, Term: st.Lead.Term, Expect: st.Expect,
		Controllers: []api.Controller{},
	}
	voters, err := c.writes.Members()
	if err != nil {
		return out, err
	}
	leader, term, led := c.writes.Store.Leader()
	if led {
		out.Term = max(out.Term, term)
	}
	byID := make(map[fleet.ControllerID]*api.Controller)
	for _, v := range voters {
		role := api.ControllerNonvoter
		if v.Voting {
			role = api.ControllerVoter
		}
		byID[v.ID] = &api.Controller{ID: v.ID, Role: role}
	}
	members := c.writes.ring.Members()
	for _, m := range members {
		if m.Role != fleet.RoleController || st.Cluster != "" && m.Cluster != "" && m.Cluster != st.Cluster {
			continue
		}
		if byID[m.Controller] == nil {
			byID[m.Controller] = &api.Controller{ID: m.Controller, Role: api.ControllerJoining}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, one := range byID {
		if m, ok := controllerOf(members, id); ok {
			c.names[id] = m.Node
			one.HTTP, one.Raft, one.Alive, one.Version = m.HTTP, m.Raft, true, m.Version
			one.Problem = c.writes.problemOf(id)
		}
		one.Name, one.Leader = c.names[id], led && id == leader
		out.Controllers = append(out.Controllers, *one)
	}
	slices.SortFunc(out.Controllers, func(a, b api.Controller) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// find returns the controller that a name or an id means.
func (c *controllers) find(ctx context.Context, name string) (api.Controller, error) {
	list, err := c.List(ctx)
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

// Remove implements httpapi.Controllers.
func (c *controllers) Remove(ctx context.Context, name string) error {
	one, err := c.find(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case one.Role == api.ControllerJoining:
		return fmt.Errorf("%w: controller %s is no member of the cluster", fleet.ErrConflict, name)
	case one.Leader:
		return fmt.Errorf("%w: controller %s leads: transfer the leadership first", fleet.ErrConflict, name)
	}
	if !c.gone(ctx, one.ID) {
		return fmt.Errorf("%w: controller %s is alive, and would be taken in again: stop it first", fleet.ErrConflict, name)
	}
	return c.writes.Remove(one.ID)
}

// missedAfter is how long gossip takes to miss a controller that was killed.
const missedAfter = 6 * time.Second

// gone waits until gossip misses a controller.
func (c *controllers) gone(ctx context.Context, id fleet.ControllerID) bool {
	changed, cancel := c.writes.ring.Subscribe()
	defer cancel()
	patience := time.NewTimer(missedAfter)
	defer patience.Stop()
	for {
		if _, alive := controllerOf(c.writes.ring.Members(), id); !alive {
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

// Transfer implements httpapi.Controllers.
func (c *controllers) Transfer(ctx context.Context, name string) error {
	one, err := c.find(ctx, name)
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
	if err := c.writes.Transfer(ctx, one.ID); err != nil {
		return err
	}
	c.awaitLeader(ctx, one.ID)
	return nil
}

// awaitLeader returns once this controller knows of the new leader, so that the
// answer, which lists the controllers, has one; or when it takes too long.
func (c *controllers) awaitLeader(ctx context.Context, id fleet.ControllerID) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	changed, unsubscribe := c.writes.Subscribe()
	defer unsubscribe()
	for {
		if now, _, ok := c.writes.Store.Leader(); ok && now == id {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
