package projection

import (
	"cmp"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

// toolSets has the set of tools of each catalogue, by the catalogue's hash. The
// router compares sets by identity, so a set is made once and handed on.
type toolSets map[string]*route.Tools

// of returns the tools that a replica lists, nil if that is not known. The set
// is that of known, or of others, the server's other replicas, if one of them
// lists the same tools: catalogues may differ in other things.
func (s toolSets) of(snap *observe.Snapshot, others []route.Replica, id fleet.ReplicaID, known toolSets) *route.Tools {
	hash := snap.Replicas[id].Catalogue
	c := snap.Catalogues[hash]
	if c == nil {
		return nil
	}
	set := cmp.Or(s[hash], known[hash])
	if set == nil {
		var names []string
		for _, raw := range c.Tools {
			if t, err := mcp.ParseTool(raw); err == nil {
				names = append(names, t.Name)
			}
		}
		set = route.NewTools(names)
	}
	for _, o := range others {
		if o.Tools != nil && o.Tools != set && o.Tools.Equal(set) {
			set = o.Tools
		}
	}
	s[hash] = set
	return set
}
