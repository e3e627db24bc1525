package httpapi

import (
	"cmp"
	"fmt"

	"github.com/mcpfleet/mcpfleet/internal/breaking"
	"github.com/mcpfleet/mcpfleet/internal/desired"
)

// maxToolChanges is how many changed tools of a server a warning lists.
const maxToolChanges = 20

// toolChanges warns of new revisions whose tools take something away from callers, as
// far as their tools are known already.
func toolChanges(before, after *desired.State, changes []desired.Change) (out []desired.Warning) {
	for _, c := range changes {
		was, is := before.Servers[c.Server], after.Servers[c.Server]
		if was == nil || is == nil || was.Revision == is.Revision {
			continue
		}
		served := cmp.Or(was.Stable, was.Revision)
		old, new := was.Catalogue(served), is.ExpectedCatalogue()
		switch found := breaking.Changes(old, new, is.Spec.Offers); {
		case old == nil || served == is.Revision:
		case len(found) > 0:
			out = append(out, desired.Warning{Server: c.Server, Text: "callers may break: " + breaking.Summary(found, maxToolChanges)})
		case new == nil:
			out = append(out, desired.Warning{Server: c.Server, Text: fmt.Sprintf(
				"the tools of the new revision are not known yet: they are compared with those of revision %d when its first replica is ready", served)})
		}
	}
	return out
}
