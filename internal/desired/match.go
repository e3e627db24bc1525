package desired

import (
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// check compares what a write demands with what is stored: its ETag, and
// whether there is anything. An ETag of a thing not stored is "", unless it
// can be demanded all the same.
func (m Match) check(what, etag string, stored bool) error {
	if m.New && stored {
		return fmt.Errorf("%w: %s exists already; its etag is %s", fleet.ErrPrecondition, what, etag)
	}
	switch {
	case len(m.ETags) == 0:
		return nil
	case stored && slices.Contains(m.ETags, "*"):
		return nil
	case etag != "" && slices.Contains(m.ETags, etag):
		return nil
	case !stored:
		return fmt.Errorf("%w: %s does not exist", fleet.ErrPrecondition, what)
	}
	return fmt.Errorf("%w: %s has changed; its etag is now %s", fleet.ErrPrecondition, what, etag)
}

// matchServer checks a write to one server, stored or (nil) not.
func (d *draft) matchServer(m Match, name fleet.ServerName, sv *Server) error {
	what := fmt.Sprintf("server %s", name)
	if sv == nil {
		return m.check(what, "", false)
	}
	return m.check(what, sv.ETag(d.next.Incarnation), true)
}

// matchAll checks a write to the set of servers. It has an ETag before anybody
// wrote it, so that a first write may be guarded too.
func (d *draft) matchAll(m Match) error {
	return m.check("the set of servers", d.next.ETag(), d.next.Written != 0)
}
