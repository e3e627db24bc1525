package membership

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Founding is the Expect of a controller that has state and does not know its
// cluster yet: it has just founded one, or was restored.
const Founding = -1

// Found returns the voters of the cluster that a controller without any state should
// found now. It does so if exactly as many stateless controllers as each of them
// expects see each other, no controller in the ring belongs to a cluster, and this
// one has the lowest id. Otherwise it returns no voters, and says what the
// controller waits for.
func Found(self fleet.Member, members []fleet.Member) (voters []fleet.ControllerID, why string) {
	if self.Cluster != "" {
		return nil, fmt.Sprintf("this controller belongs to cluster %s", self.Cluster)
	}
	others := controllers(self, members)
	for _, m := range others {
		if m.Cluster != "" {
			return nil, fmt.Sprintf("waiting to be taken into cluster %s, which %s belongs to", m.Cluster, m.Node)
		}
	}
	if self.Expect <= 0 {
		return nil, "waiting to be taken into a cluster: without --bootstrap-expect this controller founds none"
	}
	var founders []fleet.Member
	for _, m := range others {
		if m.Expect == 0 {
			continue // it also waits to be taken in
		}
		if m.Expect == Founding {
			return nil, fmt.Sprintf("waiting for %s, which has state, to name its cluster", m.Node)
		}
		if m.Expect != self.Expect {
			return nil, fmt.Sprintf("--bootstrap-expect is %d here, and %d at %s", self.Expect, m.Expect, m.Node)
		}
		founders = append(founders, m)
	}
	founders = append(founders, self)
	slices.SortFunc(founders, func(a, b fleet.Member) int { return cmp.Compare(a.Controller, b.Controller) })
	switch n := len(founders); {
	case n < self.Expect:
		return nil, fmt.Sprintf("%d of %d controllers are here: %s", n, self.Expect, nodes(founders))
	case n > self.Expect:
		return nil, fmt.Sprintf("%d controllers want to found a cluster of %d: %s; stop the surplus", n, self.Expect, nodes(founders))
	case founders[0].Controller != self.Controller:
		return nil, fmt.Sprintf("waiting for %s to found the cluster", founders[0].Node)
	}
	for _, m := range founders {
		voters = append(voters, m.Controller)
	}
	return voters, ""
}

// controllers returns the other controllers in the ring. Of several lives with one
// name or one id it returns the newest: the others are dead, and gossip does not
// know yet.
func controllers(self fleet.Member, members []fleet.Member) []fleet.Member {
	byAge := slices.Clone(members)
	slices.SortStableFunc(byAge, func(a, b fleet.Member) int { return b.Started.Compare(a.Started) })
	var out []fleet.Member
	for _, m := range byAge {
		if m.Role != fleet.RoleController || m.Controller == "" || m.Controller == self.Controller || m.Node == self.Node {
			continue
		}
		if !slices.ContainsFunc(out, func(o fleet.Member) bool { return o.Controller == m.Controller || o.Node == m.Node }) {
			out = append(out, m)
		}
	}
	return out
}

func nodes(members []fleet.Member) string {
	names := make([]string, 0, len(members))
	for _, m := range members {
		names = append(names, string(m.Node))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// OldestFormat returns the newest format of commands and snapshots that every
// living controller of a cluster understands, and those that may be taken in.
func OldestFormat(members []fleet.Member, cluster fleet.ClusterID) int {
	oldest := desired.Format
	for _, m := range members {
		if m.Role == fleet.RoleController && (m.Cluster == "" || m.Cluster == cluster) {
			oldest = min(oldest, m.Format)
		}
	}
	return oldest
}
