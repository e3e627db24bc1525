package desired

import (
	"fmt"
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Apply is what the command of the entry at index, written in term, does to s,
// which may be nil: the empty state. It changes nothing of s. An entry that s
// has seen already does nothing. A refused command changes nothing but
// Applied.
func (s *State) Apply(index, term uint64, c Command) Result {
	if s == nil {
		s = &State{}
	}
	if index <= s.Applied {
		return Result{Index: index, Term: term, State: s}
	}
	d := s.draft(index, term, c)
	err := d.do(c)
	r := Result{Index: index, Term: term, Err: err}
	if err != nil || !d.touched {
		r.State = s.SkipTo(index)
	} else {
		r.State = d.next
	}
	if err == nil {
		r.Changes, r.Repeated = d.changes, d.repeated
	}
	return r
}

// SkipTo is s after an entry that is no command.
func (s *State) SkipTo(index uint64) *State {
	if s == nil {
		s = &State{}
	}
	if index <= s.Applied {
		return s
	}
	next := *s
	next.Applied = index
	return &next
}

// Changes tells whether a command should be written: false when applying it to
// s succeeds and leaves all as it is, as a PUT of the stored spec does. It is
// true also of what s refuses, and of a repeated idempotency key: only the log
// can say so, since s may be behind it.
func (c Command) Changes(s *State) bool {
	if s == nil {
		s = &State{}
	}
	d := s.draft(s.Applied+1, uint64(s.Lead.Term), c)
	return d.do(c) != nil || d.touched || d.repeated
}

// draft is a state in the making. What it does not change it shares with the
// state it comes from, so maps and servers are copied before the first write.
type draft struct {
	next    *State
	index   uint64
	term    uint64
	now     time.Time // the command's
	changes []Change

	touched  bool // next differs from the old state in more than Applied
	repeated bool // an idempotency key was found: changes are those of then

	ownServers, ownRevisions, ownNodes bool // the map is the draft's own
}

func (s *State) draft(index, term uint64, c Command) *draft {
	next := *s
	// Not this version's Format: versions that apply the same log shall write
	// the same snapshot, and the oldest shall be able to read it.
	next.Format = max(s.Format, Needs(c))
	next.Applied = index
	return &draft{next: &next, index: index, term: term, now: plainTime(c.Time)}
}

// do carries out one command. After an error the draft is worth nothing.
func (d *draft) do(c Command) error {
	if n := c.kinds(); n != 1 {
		return fmt.Errorf("%w: an entry holds one command, not %d", fleet.ErrInvalid, n)
	}
	switch {
	case c.Lead != nil:
		return d.lead(c.Lead)
	case c.PutServers != nil:
		return d.putServers(c.PutServers)
	case c.PutServer != nil:
		return d.putServer(c.PutServer)
	case c.Delete != nil:
		return d.deleteServer(c.Delete)
	case c.Scale != nil:
		return d.scale(c.Scale)
	case c.Restart != nil:
		return d.restart(c.Restart)
	case c.Rollback != nil:
		return d.rollback(c.Rollback)
	case c.Node != nil:
		return d.setNode(c.Node)
	case c.RolledOut != nil:
		d.rolledOut(c.RolledOut)
	case c.Catalogue != nil:
		d.setCatalogue(c.Catalogue)
	case c.Known != nil:
		d.setKnown(c.Known)
	}
	return nil
}

// kinds counts the pointers that are set.
func (c Command) kinds() int {
	n := 0
	for _, set := range []bool{
		c.Lead != nil, c.PutServers != nil, c.PutServer != nil, c.Delete != nil, c.Scale != nil, c.Restart != nil,
		c.Rollback != nil, c.Node != nil, c.RolledOut != nil, c.Catalogue != nil, c.Known != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// seen notes a change that readers see.
func (d *draft) seen(changes ...Change) {
	d.touched = true
	d.next.Index = d.index
	d.changes = append(d.changes, changes...)
}

// edit returns a copy of the stored server, to be changed and given to put.
func (d *draft) edit(name fleet.ServerName) (*Server, error) {
	old, err := d.stored(name)
	if err != nil {
		return nil, err
	}
	sv := *old
	return &sv, nil
}

func (d *draft) stored(name fleet.ServerName) (*Server, error) {
	sv := d.next.Servers[name]
	if sv == nil {
		return nil, fmt.Errorf("%w: %s", fleet.ErrUnknownServer, name)
	}
	return sv, nil
}

// put stores a server, new or a changed copy of the one that was stored.
func (d *draft) put(name fleet.ServerName, sv *Server, changes ...Change) {
	sv.Index = d.index
	own(&d.next.Servers, &d.ownServers)[name] = sv
	d.seen(changes...)
}

// own makes a map of the old state, or none, the draft's own.
func own[K comparable, V any](m *map[K]V, owned *bool) map[K]V {
	if !*owned {
		*m = maps.Clone(*m)
		*owned = true
	}
	if *m == nil {
		*m = map[K]V{}
	}
	return *m
}
