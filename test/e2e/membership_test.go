//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// ids returns the members of the cluster in the view of one controller, by the
// last words of their names.
func (p *Plane) ids(l *life) map[fleet.ControllerID]string {
	ids := map[fleet.ControllerID]string{}
	for _, c := range p.controllersOf(l).Controllers {
		ids[c.ID] = strings.TrimSuffix(string(c.Name), "-"+p.token)
	}
	return ids
}

// Controllers come back at other addresses, are replaced, are removed, and take
// over leadership when told to. No replica is affected.
func TestControllersComeAndGo(t *testing.T) {
	t.Parallel()
	p := NewPlane(t, 3)
	p.Fleet(`servers: { demo: { command: [%q], replicas: 2, env: { TOKEN: %s } } }`, program("testserver"), p.token)
	p.Start(2)
	before := p.alive("demo")
	members := p.ids(p.Leader())

	// The leader and then a follower come back at other ports.
	for _, name := range []string{p.Leader().name, p.Follower().name} {
		old := p.life(name).Addr
		p.Kill(name)
		p.StartNew(name)
		if now := p.life(name).Addr; now.HTTP == old.HTTP || now.Raft == old.Raft || now.Gossip == old.Gossip {
			t.Logf("%s got an address again: %+v, %+v", name, old, now)
		}
		p.AwaitVoters("c1", "c2", "c3")
		if now := p.ids(p.life(name)); !maps.Equal(now, members) {
			t.Errorf("%s came back; members were %v and are %v", name, members, now)
		}
	}

	// A controller that has lost its disk comes back as a new member, which
	// replaces the old one.
	lost := p.Follower().name
	p.Kill(lost)
	p.wipe(lost)
	p.StartNew(lost)
	p.AwaitVoters("c1", "c2", "c3")
	if now := p.ids(p.Leader()); maps.Equal(now, members) || len(now) != 3 {
		t.Errorf("without its disk %s came back; members were %v and are %v", lost, members, now)
	}

	// A controller is replaced by one with another name.
	gone := p.Follower().name
	p.Kill(gone)
	p.StartNew("c4")
	left := slices.DeleteFunc([]string{"c1", "c2", "c3", "c4"}, func(n string) bool { return n == gone })
	p.AwaitVoters(left...)

	// Leadership is transferred.
	list := func() api.Controllers { return p.controllersOf(p.Leader()) }
	for _, name := range left {
		out := p.mustCLI("", "controllers", "transfer", p.Node(name))
		if !strings.Contains(out, p.Node(name)) {
			t.Errorf("transfer to %s: %s", name, out)
		}
		harness.Eventually(t, patience, func() error {
			if l := p.Leader(); l.name != name {
				return fmt.Errorf("%s leads, not %s", l.name, name)
			}
			return nil
		})
	}
	leader := p.Leader()
	if r := p.cli("", "controllers", "remove", p.Node(leader.name)); r.code != 1 || !strings.Contains(r.err, "leads") {
		t.Errorf("the leader was removed: %+v", r)
	}
	if r := p.cli("", "controllers", "transfer", "nobody"); r.code != 1 || !strings.Contains(r.err, "nobody") {
		t.Errorf("nobody leads: %+v", r)
	}
	removed := p.Follower().name
	p.Kill(removed)
	harness.Eventually(t, patience, func() error { // gossip takes a moment
		for _, c := range list().Controllers {
			if string(c.Name) == p.Node(removed) && c.Alive {
				return fmt.Errorf("%s is still said to be alive", removed)
			}
		}
		return nil
	})
	p.mustCLI("", "controllers", "remove", p.Node(removed))
	rest := slices.DeleteFunc(slices.Clone(left), func(n string) bool { return n == removed })
	p.AwaitVoters(rest...)
	out := p.mustCLI("", "controllers", "list")
	for _, name := range rest {
		if !strings.Contains(out, p.Node(name)) {
			t.Errorf("controllers list has no %s: %s", name, out)
		}
	}
	if strings.Contains(out, p.Node(removed)) || strings.Count(out, "leader") != 1 {
		t.Errorf("controllers list: %s", out)
	}
	if l := p.Leader(); l != leader {
		t.Errorf("%s led, and %s does", leader.name, l.name)
	}
	p.mustKeep("demo", before)
	if s := p.Server("demo"); s.Restarts != 0 || s.Revision != 1 {
		t.Errorf("the server afterwards: %+v", s)
	}

	// A controller that stops in order stays a member. The other of two waits.
	p.retire(leader)
	leader.Stop()
	p.Restart(leader.name)
	p.AwaitVoters(rest...)
	p.mustKeep("demo", before)
}
