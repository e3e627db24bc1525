package desired

import (
	"fmt"
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Apply applies the entry at index, written in term, to s. It changes nothing of
// s, which may be nil: the empty state. An entry that s contains already does
// nothing. A refused command changes nothing but Applied.
func (s *State) Apply(index, term uint64, e Entry) Result {
	if s == nil {
		s = &State{}
	}
	if index <= s.Applied {
		return Result{Index: index, Term: term, State: s}
	}
	d := s.draft(index, term, e)
	err := e.Command.apply(d)
	r := Result{Index: index, Term: term, Err: err}
	if err != nil || !d.touched {
		r.State = s.SkipTo(index)
	} else {
		r.State = d.next
	}
	if err == nil {
		r.Changes, r.Warnings, r.Repeated = d.changes, d.warnings, d.repeated
	}
	return r
}

// DryRun returns what applying a command as the next entry of the present term
// would do.
func (s *State) DryRun(now time.Time, c Command) Result {
	if s == nil {
		s = &State{}
	}
	return s.Apply(s.Applied+1, uint64(s.Lead.Term), Entry{now, c})
}

// SkipTo returns s after an entry that holds no command.
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

// NeedsEntry reports whether a command must be written to the log. A command
// that s accepts and that changes nothing, such as a PUT of the stored spec,
// need not. One that s refuses must, and a repeated idempotency key too: s may
// be behind the log, which decides.
func (s *State) NeedsEntry(c Command) bool {
	if s == nil {
		s = &State{}
	}
	d := s.draft(s.Applied+1, uint64(s.Lead.Term), Entry{Command: c})
	return c.apply(d) != nil || d.touched || d.repeated
}

// draft is a state that a command is changing. It shares unchanged parts with the
// state it comes from, so maps and servers are copied before the first write.
type draft struct {
	next     *State
	index    uint64
	term     uint64
	now      time.Time // the entry's
	changes  []Change
	warnings []Warning

	touched  bool // next differs from the old state in more than Applied
	repeated bool // an idempotency key was found: changes are those of then

	ownServers, ownRevisions, ownNodes bool // the map is the draft's own
}

func (s *State) draft(index, term uint64, e Entry) *draft {
	next := *s
	// Not this version's Format: versions that apply the same log must write
	// the same snapshot, and the oldest must be able to read it.
	next.Format = max(s.Format, Needs(e.Command))
	next.Applied = index
	return &draft{next: &next, index: index, term: term, now: plainTime(e.Time)}
}

// changed records a change that readers see.
func (d *draft) changed(changes ...Change) {
	d.touched = true
	d.next.Index = d.index
	d.changes = append(d.changes, changes...)
}

// edit returns a copy of the stored server, to be changed and passed to put.
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

// put stores a new server, or a changed copy of a stored one.
func (d *draft) put(name fleet.ServerName, sv *Server, changes ...Change) {
	sv.Index = d.index
	own(&d.next.Servers, &d.ownServers)[name] = sv
	d.changed(changes...)
}

// own replaces a map that is shared with the old state by a copy, once, and
// returns it. It is never nil.
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
