package mcp

import (
	"bytes"
	"fmt"
	"slices"
)

// Change is one change to a member of an object. Set, SetDefault, Remove, Within and InMeta make it.
type Change struct {
	name   string
	kind   changeKind
	value  []byte
	within []Change
	at     int // removeOthers: where the member starts that stays
}

type changeKind uint8

const (
	changeSet changeKind = iota
	changeDefault
	changeRemove
	changeWithin
	changeMeta
	removeOthers
)

// Set sets a member to value, which is raw JSON, whether the object has it or not.
func Set(name string, value []byte) Change {
	return Change{name: name, kind: changeSet, value: value}
}

// SetDefault sets a member to value, which is raw JSON, if the object has no such member or it is null.
func SetDefault(name string, value []byte) Change {
	return Change{name: name, kind: changeDefault, value: value}
}

// Remove removes a member.
func Remove(name string) Change { return Change{name: name, kind: changeRemove} }

// Within makes changes in the object that is a member's value. If there is no such member, or it is
// null, it is added if a change sets something.
func Within(name string, changes ...Change) Change {
	return Change{name: name, kind: changeWithin, within: changes}
}

// InMeta is Within for _meta, which it removes if the changes leave it empty.
func InMeta(changes ...Change) Change {
	return Change{name: "_meta", kind: changeMeta, within: changes}
}

// Edit returns the object raw with the changes, at most 64 and one of each name. Every other byte stays
// as it is, and new members come first. Empty or null raw counts as an object without members. If nothing
// changes, the result is raw itself.
//
// Of duplicate members the last counts, and one that is set or edited loses its duplicates. So two
// readers of the result cannot disagree about what was changed. The errors are those of Members.
func Edit(raw []byte, changes ...Change) ([]byte, error) {
	var space [8]cut
	e := editor{cuts: space[:0]}
	if err := e.edit(raw, changes); err != nil {
		return nil, err
	}
	if !e.changed() {
		return raw, nil
	}
	return e.appendTo(make([]byte, 0, e.size())), nil
}

// editor collects what to cut out of a text and what to put in its place. The space for
// its first cuts is its maker's, so that neither is allocated.
type editor struct {
	raw  []byte
	cuts []cut // ascending
	text []byte

	again     bool // there is a duplicate of a member to edit within
	duplicate Change
	object    int // where that object starts
}

type cut struct {
	start, end int
	insert     []byte
}

func (e *editor) edit(raw []byte, changes []Change) error {
	if noParams(raw) {
		e.raw = raw
		if built := appendObject(nil, changes); len(built) > len("{}") {
			e.cuts = append(e.cuts, cut{0, len(raw), built})
		}
		return nil
	}
	if raw[skipSpace(raw, 0)] != '{' {
		return Members(raw, nil) // which says what is wrong
	}
	for {
		e.raw, e.cuts = raw, e.cuts[:0]
		end, _, err := e.walk(skipSpace(raw, 0), changes)
		if err != nil {
			return err
		}
		if !e.again {
			return trailing(raw, end)
		}
		e.again, e.cuts = false, e.cuts[:0]
		if _, _, err := e.walk(e.object, []Change{e.duplicate}); err != nil {
			return err
		}
		raw = e.appendTo(make([]byte, 0, e.size()))
	}
}

// walk records the changes of the object that begins at i. left is how many members it will have.
func (e *editor) walk(i int, changes []Change) (end, left int, err error) {
	var (
		found   uint64 // bits by change
		keptEnd int    // of the last member that stays
		run     = -1   // where the current run of removed members starts
		runEnd  int
	)
	front := len(e.cuts)
	e.cuts = append(e.cuts, cut{i + 1, i + 1, nil})
	stopped, end, why := members(e.raw, i, func(key []byte, at, start, end int) bool {
		before, removed := len(e.cuts), false
		for n := range changes {
			if string(key) == changes[n].name {
				repeated := found&(1<<n) != 0
				found |= 1 << n
				if removed, err = e.member(&changes[n], i, at, start, end, repeated); err != nil || e.again {
					return false
				}
				break
			}
		}
		if removed {
			e.cuts = e.cuts[:before]
			if run < 0 {
				run = at
			}
			runEnd = end
			return true
		}
		if run >= 0 {
			e.cuts = slices.Insert(e.cuts, before, cut{run, at, nil})
			run = -1
		}
		left++
		keptEnd = end
		return true
	})
	if err != nil || stopped {
		return end, 0, err
	}
	if why != "" {
		return 0, 0, syntaxError(e.raw, end, why)
	}
	if run >= 0 && left > 0 {
		run = keptEnd // the comma before goes too
	}
	if run >= 0 {
		e.cuts = append(e.cuts, cut{run, runEnd, nil})
	}
	added := e.add(front, found, changes, left > 0)
	return end, left + added, nil
}

// member records a change of the member that starts at at, and reports whether it goes.
func (e *editor) member(c *Change, object, at, start, end int, repeated bool) (removed bool, err error) {
	null := e.raw[start] == 'n'
	switch c.kind {
	case changeRemove:
		return true, nil
	case removeOthers:
		return at != c.at, nil
	case changeSet:
		if repeated {
			return true, nil
		}
		e.cuts = append(e.cuts, cut{start, end, c.value})
	case changeDefault:
		if null {
			e.cuts = append(e.cuts, cut{start, end, c.value})
		}
	case changeWithin, changeMeta:
		if !repeated {
			if removed, err = e.nested(c, start, end); err == nil || e.last(object, c.name) == at {
				return removed, err
			}
		}
		e.again, e.object = true, object
		e.duplicate = Change{name: c.name, kind: removeOthers, at: e.last(object, c.name)}
	}
	return false, nil
}

func (e *editor) nested(c *Change, start, end int) (removed bool, err error) {
	switch e.raw[start] {
	case '{':
		_, left, err := e.walk(start, c.within)
		if err != nil {
			return false, fmt.Errorf("%s: %w", c.name, err)
		}
		return c.kind == changeMeta && left == 0 && end-start > len("{}") && !e.again, nil
	case 'n':
		if value := appendObject(nil, c.within); len(value) > len("{}") {
			e.cuts = append(e.cuts, cut{start, end, value})
		}
		return false, nil
	}
	return false, fmt.Errorf("%s: %w", c.name, &TypeError{Want: "object", Got: TypeOf(e.raw[start:end])})
}

// last returns where the last member of that name starts in an object.
func (e *editor) last(object int, name string) (start int) {
	members(e.raw, object, func(key []byte, at, _, _ int) bool {
		if string(key) == name {
			start = at
		}
		return true
	})
	return start
}

// add puts the members that the object does not have before its first, and returns how many.
func (e *editor) add(front int, found uint64, changes []Change, others bool) int {
	size := 0
	for n := range changes {
		if found&(1<<n) == 0 {
			size += sizeOf(&changes[n])
		}
	}
	e.text = slices.Grow(e.text, size)
	added, begin := 0, len(e.text)
	for n := range changes {
		if found&(1<<n) != 0 {
			continue
		}
		grown := len(e.text)
		if added > 0 {
			e.text = append(e.text, ',')
		}
		filled := len(e.text)
		if e.text = appendChange(e.text, &changes[n]); len(e.text) == filled {
			e.text = e.text[:grown]
			continue
		}
		added++
	}
	if added > 0 && others {
		e.text = append(e.text, ',')
	}
	e.cuts[front].insert = e.text[begin:len(e.text):len(e.text)]
	return added
}

// appendChange appends the member that a change adds, if it adds one.
func appendChange(dst []byte, c *Change) []byte {
	before := len(dst)
	switch c.kind {
	case changeSet, changeDefault:
		return append(append(AppendString(dst, c.name), ':'), c.value...)
	case changeWithin, changeMeta:
		dst = append(AppendString(dst, c.name), ':')
		at := len(dst)
		if dst = appendObject(dst, c.within); len(dst) == at+len("{}") {
			return dst[:before]
		}
	case changeRemove, removeOthers:
	}
	return dst
}

// appendObject appends an object of the members that changes add.
func appendObject(dst []byte, changes []Change) []byte {
	dst = append(dst, '{')
	for n := range changes {
		before := len(dst)
		if dst = appendChange(dst, &changes[n]); len(dst) > before {
			dst = append(dst, ',')
		}
	}
	return append(bytes.TrimSuffix(dst, []byte{','}), '}')
}

// sizeOf returns at least how long the member is that a change adds.
func sizeOf(c *Change) int {
	size := len(c.value)
	for n := range c.within {
		size += sizeOf(&c.within[n])
	}
	if c.kind == changeRemove || c.kind == removeOthers || size == 0 {
		return 0
	}
	return size + len(c.name) + len(`"":{},`)
}

func (e *editor) changed() bool {
	for _, c := range e.cuts {
		if c.end > c.start || len(c.insert) > 0 {
			return true
		}
	}
	return false
}

func (e *editor) size() int {
	size := len(e.raw)
	for _, c := range e.cuts {
		size += len(c.insert) - (c.end - c.start)
	}
	return size
}

func (e *editor) appendTo(dst []byte) []byte {
	from := 0
	for _, c := range e.cuts {
		dst = append(append(dst, e.raw[from:c.start]...), c.insert...)
		from = c.end
	}
	return append(dst, e.raw[from:]...)
}
