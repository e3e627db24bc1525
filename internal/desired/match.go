package desired

import (
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// check returns an error unless the condition holds for what is stored. The ETag
// of something that is not stored is "", except that of the set of servers, which
// may be demanded before the first write.
func (m Match) check(subject, etag string, stored bool) error {
	if m.New && stored {
		return fmt.Errorf("%w: %s exists already; its etag is %s", fleet.ErrPrecondition, subject, etag)
	}
	switch {
	case len(m.ETags) == 0:
		return nil
	case stored && slices.Contains(m.ETags, "*"):
		return nil
	case etag != "" && slices.Contains(m.ETags, etag):
		return nil
	case !stored:
		return fmt.Errorf("%w: %s does not exist", fleet.ErrPrecondition, subject)
	}
	return fmt.Errorf("%w: %s has changed; its etag is now %s", fleet.ErrPrecondition, subject, etag)
}

// matchServer checks a write to one server. sv is nil if it is not stored.
func (d *draft) matchServer(m Match, name fleet.ServerName, sv *Server) error {
	subject := Subject{Server: name}.String()
	if sv == nil {
		return m.check(subject, "", false)
	}
	return m.check(subject, sv.ETag(d.next.Incarnation), true)
}

// matchAll checks a write to the set of servers. The set has an ETag before its
// first write, so that the first write can be guarded too.
func (d *draft) matchAll(m Match) error {
	return m.check("the set of servers", d.next.ETag(), d.next.Written != 0)
}
