package mcphttp

import (
	"sync"
	"time"
)

const (
	// maxTombstones bounds the ended sessions that are remembered. The oldest go first.
	maxTombstones = 100_000
	// maxNotes bounds the sessions about which more is known than their id says.
	maxNotes = 100_000
	// maxSubscriptions bounds the resources that a session subscribes to.
	maxSubscriptions = 1000
)

// directory has what this controller knows of sessions besides what is sealed in their
// ids. All methods may be called at once.
type directory struct {
	mu    sync.Mutex
	notes map[[16]byte]*note
	dead  map[[16]byte]time.Time // when they ended
	order [][16]byte             // of dead, the oldest first
}

// note is what the directory knows of one session.
type note struct {
	level string
	uris  map[string]bool
}

func newDirectory() *directory {
	return &directory{notes: make(map[[16]byte]*note), dead: make(map[[16]byte]time.Time)}
}

// ended reports whether a session has ended.
func (d *directory) ended(uid [16]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ended := d.dead[uid]
	return ended
}

// end ends a session.
func (d *directory) end(uid [16]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.notes, uid)
	if _, twice := d.dead[uid]; twice {
		return
	}
	if len(d.order) >= maxTombstones {
		delete(d.dead, d.order[0])
		d.order = d.order[1:]
	}
	d.dead[uid] = time.Now()
	d.order = append(d.order, uid)
}

// level returns the level of log messages that a session's client asked for, "" if it
// asked for none.
func (d *directory) level(uid [16]byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.notes[uid]; n != nil {
		return n.level
	}
	return ""
}

func (d *directory) setLevel(uid [16]byte, level string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.note(uid); n != nil {
		n.level = level
	}
}

// subscribe reports whether the session may subscribe to one more resource.
func (d *directory) subscribe(uid [16]byte, uri string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.note(uid)
	if n == nil || len(n.uris) >= maxSubscriptions && !n.uris[uri] {
		return false
	}
	if n.uris == nil {
		n.uris = make(map[string]bool)
	}
	n.uris[uri] = true
	return true
}

func (d *directory) unsubscribe(uid [16]byte, uri string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.notes[uid]; n != nil {
		delete(n.uris, uri)
	}
}

// note returns what is known of a session, to be changed, or nil if too many are known.
// It needs d.mu held.
func (d *directory) note(uid [16]byte) *note {
	n := d.notes[uid]
	if n == nil && len(d.notes) < maxNotes {
		n = &note{}
		d.notes[uid] = n
	}
	return n
}
