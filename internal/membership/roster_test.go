package membership

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// control is the store and the ring of a cluster as the test sets it. This
// controller is c1.
type control struct {
	notice.Board
	mu      sync.Mutex
	leads   fleet.ControllerID
	voters  []fleet.Voter
	members []fleet.Member
	did     string
}

func (c *control) ID() fleet.ControllerID { return "c1" }

func (c *control) State() *desired.State { return &desired.State{Cluster: "k", Expect: 3} }

func (c *control) Members() ([]fleet.Voter, error) { return c.voters, nil }

func (c *control) Leader() (fleet.ControllerID, fleet.Epoch, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leads, 7, c.leads != ""
}

func (c *control) ProblemOf(id fleet.ControllerID) string {
	if id == "c2" {
		return "it lags"
	}
	return ""
}

func (c *control) Remove(id fleet.ControllerID) error {
	c.did = "removed " + string(id)
	return nil
}

// Transfer is done before this controller hears of the new leader.
func (c *control) Transfer(_ context.Context, to fleet.ControllerID) error {
	c.did = "transferred to " + string(to)
	time.AfterFunc(time.Second, func() {
		c.mu.Lock()
		c.leads = to
		c.mu.Unlock()
		c.Post()
	})
	return nil
}

// ringOf is the same control as a ring.
type ringOf struct{ *control }

func (r ringOf) Members() []fleet.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members
}

func (r ringOf) leave(id fleet.ControllerID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range r.members {
		if m.Controller == id {
			r.members = append(r.members[:i:i], r.members[i+1:]...)
			break
		}
	}
	r.Post()
}

func newControl() (*control, *Roster) {
	controller := func(node fleet.NodeID, id fleet.ControllerID, cluster fleet.ClusterID) fleet.Member {
		return fleet.Member{Node: node, Role: fleet.RoleController, Controller: id, Cluster: cluster, HTTP: string(node) + ":1"}
	}
	c := &control{
		leads:  "c1",
		voters: []fleet.Voter{{ID: "c1", Voting: true}, {ID: "c2", Voting: true}, {ID: "c3"}, {ID: "c9", Voting: true}},
		members: []fleet.Member{
			controller("a", "c1", "k"), controller("b", "c2", "k"), controller("c", "c3", "k"), controller("d", "c4", ""),
			controller("e", "c5", "another"), {Node: "w", Role: fleet.RoleWorker},
		},
	}
	ring := ringOf{c}
	return c, NewRoster(RosterConfig{Store: c, Ring: ring, Leader: leader.New(c, ring)})
}

func TestRosterList(t *testing.T) {
	c, r := newControl()
	list := func() string {
		got, err := r.List(t.Context())
		if err != nil || got.Cluster != "k" || got.Term != 7 || got.Expect != 3 {
			t.Errorf("got %+v, %v", got, err)
		}
		var lines []string
		for _, one := range got.Controllers {
			line := fmt.Sprintf("%s %s %s", one.ID, one.Name, one.Role)
			if one.Leader {
				line += " leads"
			}
			if !one.Alive {
				line += " dead"
			}
			lines = append(lines, strings.TrimSpace(line+" "+one.Problem))
		}
		return strings.Join(lines, ", ")
	}
	want := "c9  voter dead, c1 a voter leads, c2 b voter it lags, c3 c nonvoter, c4 d joining"
	if got := list(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	ringOf{c}.leave("c2") // its name is remembered
	want = "c9  voter dead, c1 a voter leads, c2 b voter dead, c3 c nonvoter, c4 d joining"
	if got := list(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRosterChanges(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(context.Context, *control, *Roster) error
		err  error
		did  string
	}{
		{"remove the dead, by id", func(ctx context.Context, _ *control, r *Roster) error { return r.Remove(ctx, "c9") }, nil, "removed c9"},
		{"remove one that has just died", func(ctx context.Context, c *control, r *Roster) error {
			time.AfterFunc(3*time.Second, func() { ringOf{c}.leave("c2") })
			return r.Remove(ctx, "b")
		}, nil, "removed c2"},
		{"remove the living", func(ctx context.Context, _ *control, r *Roster) error { return r.Remove(ctx, "b") }, fleet.ErrConflict, ""},
		{"remove the leader", func(ctx context.Context, _ *control, r *Roster) error { return r.Remove(ctx, "a") }, fleet.ErrConflict, ""},
		{"remove one that is no member", func(ctx context.Context, _ *control, r *Roster) error { return r.Remove(ctx, "d") }, fleet.ErrConflict, ""},
		{"remove an unknown one", func(ctx context.Context, _ *control, r *Roster) error { return r.Remove(ctx, "x") }, fleet.ErrUnknownController, ""},
		{"remove one of two of a name", func(ctx context.Context, c *control, r *Roster) error {
			c.members[2].Node = "b"
			return r.Remove(ctx, "b")
		}, fleet.ErrConflict, ""},
		{"transfer", func(ctx context.Context, c *control, r *Roster) error {
			err := r.Transfer(ctx, "b")
			if id, _, _ := c.Leader(); id != "c2" {
				return fmt.Errorf("it returned and knows only that %s leads", id)
			}
			return err
		}, nil, "transferred to c2"},
		{"transfer to the leader", func(ctx context.Context, _ *control, r *Roster) error { return r.Transfer(ctx, "a") }, nil, ""},
		{"transfer to a nonvoter", func(ctx context.Context, _ *control, r *Roster) error { return r.Transfer(ctx, "c") }, fleet.ErrConflict, ""},
		{"transfer to the dead", func(ctx context.Context, _ *control, r *Roster) error { return r.Transfer(ctx, "c9") }, fleet.ErrConflict, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c, r := newControl()
				if err := tt.do(t.Context(), c, r); !errors.Is(err, tt.err) || c.did != tt.did {
					t.Errorf("got %v and %q, want %v and %q", err, c.did, tt.err, tt.did)
				}
			})
		})
	}
}
