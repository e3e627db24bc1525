package mcphttp

import (
	"maps"
	"slices"
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
	// maxStreams bounds the GET streams of a session.
	maxStreams = 16
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
	// streams are the GET streams of the session here, the oldest first. Only that one
	// gets messages: none may be sent twice.
	streams []*updates
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
	n.update()
	return true
}

func (d *directory) unsubscribe(uid [16]byte, uri string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.notes[uid]; n != nil {
		delete(n.uris, uri)
		n.update()
		d.tidy(uid, n)
	}
}

// attach adds a GET stream of a session. It reports false if too many are known.
func (d *directory) attach(uid [16]byte, u *updates) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.note(uid)
	if n == nil || len(n.streams) >= maxStreams {
		return false
	}
	n.streams = append(n.streams, u)
	n.update()
	return true
}

// detach removes a GET stream. The next one takes its place.
func (d *directory) detach(uid [16]byte, u *updates) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.notes[uid]
	if n == nil {
		return
	}
	n.streams = slices.DeleteFunc(n.streams, func(other *updates) bool { return other == u })
	n.update()
	d.tidy(uid, n)
}

// isFirst reports whether a GET stream is the one that gets messages.
func (d *directory) isFirst(uid [16]byte, u *updates) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.notes[uid]
	return n != nil && len(n.streams) > 0 && n.streams[0] == u
}

// update has the first GET stream tell of the session's subscriptions. It needs d.mu
// held.
func (n *note) update() {
	if len(n.streams) > 0 {
		n.streams[0].want(slices.Sorted(maps.Keys(n.uris)))
	}
}

// tidy forgets a note that says nothing. It needs d.mu held.
func (d *directory) tidy(uid [16]byte, n *note) {
	if n.level == "" && len(n.uris) == 0 && len(n.streams) == 0 {
		delete(d.notes, uid)
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
