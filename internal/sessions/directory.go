package sessions

import (
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Bounds of a directory.
const (
	// maxRecords bounds the sessions of which more is known than their id says. Beyond it,
	// one of those that end soonest is forgotten.
	maxRecords = 100_000
	// maxSubscriptions bounds the resources that a session subscribes to, and maxURIs the
	// length of all their URIs together.
	maxSubscriptions = 1000
	maxURIs          = 128 << 10
	// usedPace is how often the use of a session is told to the other controllers.
	usedPace = 5 * time.Second
	// purgePeriod is how often records are dropped whose session is over.
	purgePeriod = time.Minute
	// sample is how many records are looked at for the one to forget.
	sample = 32
)

// Directory is what is known of sessions besides what is sealed in their ids. The
// directories of all controllers have the same records, a moment later. Nothing is on
// disk: if all controllers end at once, a session that was ended before may go on.
//
// All methods may be called at any time.
type Directory struct {
	board notice.Board

	mu      sync.Mutex
	records map[fleet.SessionID]*fleet.SessionRecord
	version uint64                        // of the last change
	changed map[fleet.SessionID]uint64    // by version
	told    map[fleet.SessionID]time.Time // Record.Used as last told to others
	purged  time.Time
	onEnd   []func(fleet.SessionID)
}

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	return &Directory{
		records: make(map[fleet.SessionID]*fleet.SessionRecord), changed: make(map[fleet.SessionID]uint64), told: make(map[fleet.SessionID]time.Time),
	}
}

// Changed posts a notice when anything that is known may have changed; see notice.Board.
func (d *Directory) Changed() (look <-chan struct{}, cancel func()) { return d.board.Subscribe() }

// get returns what is known of a session. Do not edit its lists.
func (d *Directory) get(id fleet.SessionID) (record fleet.SessionRecord, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return *r, true
	}
	return record, false
}

// Ended reports whether a session was ended.
func (d *Directory) Ended(id fleet.SessionID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.records[id]
	return r != nil && r.Ended
}

// End ends a session: no controller takes it any more.
func (d *Directory) End(id fleet.SessionID, until time.Time) {
	ended := false
	d.edit(id, until, func(r *fleet.SessionRecord) bool {
		if ended = !r.Ended; !ended {
			return false
		}
		*r = fleet.SessionRecord{ID: id, Until: r.Until, Ended: true, Began: r.Began, Stamp: r.Stamp}
		return true
	})
	if ended {
		d.tellEnded([]fleet.SessionID{id})
	}
}

// OnEnd has a function called with each session that ends, whichever controller ended it.
// It must not block.
func (d *Directory) OnEnd(ended func(fleet.SessionID)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onEnd = append(slices.Clip(d.onEnd), ended)
}

func (d *Directory) tellEnded(ids []fleet.SessionID) {
	d.mu.Lock()
	all := d.onEnd
	d.mu.Unlock()
	for _, ended := range all {
		for _, id := range ids {
			ended(id)
		}
	}
}

// Level returns the level of log messages that a session asked for, "" if it did not.
func (d *Directory) Level(id fleet.SessionID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return r.Level
	}
	return ""
}

// SetLevel sets the level of log messages of a session.
func (d *Directory) SetLevel(id fleet.SessionID, until time.Time, level string) {
	d.edit(id, until, func(r *fleet.SessionRecord) bool {
		same := r.Level == level
		r.Level = level
		return !same
	})
}

// Subscribe adds a resource to a session, and reports whether there is room for it.
func (d *Directory) Subscribe(id fleet.SessionID, until time.Time, s fleet.Subscription) (ok bool) {
	d.edit(id, until, func(r *fleet.SessionRecord) bool {
		if ok = slices.Contains(r.Subscriptions, s); ok {
			return false
		}
		size := len(s.URI)
		for _, o := range r.Subscriptions {
			size += len(o.URI)
		}
		if ok = len(r.Subscriptions) < maxSubscriptions && size <= maxURIs && !r.Ended; ok {
			r.Subscriptions = append(slices.Clip(r.Subscriptions), s)
		}
		return ok
	})
	return ok
}

// Unsubscribe removes a resource from a session.
func (d *Directory) Unsubscribe(id fleet.SessionID, until time.Time, s fleet.Subscription) {
	d.edit(id, until, func(r *fleet.SessionRecord) bool {
		before := len(r.Subscriptions)
		r.Subscriptions = slices.DeleteFunc(slices.Clone(r.Subscriptions), func(o fleet.Subscription) bool { return o == s })
		return len(r.Subscriptions) != before
	})
}

// Subscriptions returns the resources that a session subscribes to. Do not edit the list.
func (d *Directory) Subscriptions(id fleet.SessionID) []fleet.Subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return r.Subscriptions
	}
	return nil
}

// Restore returns what a session has set at a server.
func (d *Directory) Restore(id fleet.SessionID, server fleet.ServerName) (out fleet.Restore) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.records[id]
	if r == nil {
		return out
	}
	out.Level = r.Level
	for _, s := range r.Subscriptions {
		if s.Server == server {
			out.Subscriptions = append(out.Subscriptions, s.URI)
		}
	}
	return out
}

// Touch records that a session is used.
func (d *Directory) Touch(id fleet.SessionID, until time.Time) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.record(id, until)
	r.Used = now
	if told, ok := d.told[id]; !ok || now.Sub(told) >= usedPace {
		d.told[id] = now
		d.post(id)
	}
}

// used returns when a session was last used as far as is known, and when it got its first
// replica. Both are zero for an unknown session.
func (d *Directory) used(id fleet.SessionID) (last, began time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return r.Used, r.Began
	}
	return last, began
}

// Opened returns the servers that had a replica for a session. Do not edit the list.
func (d *Directory) Opened(id fleet.SessionID) []fleet.ServerName {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return r.Opened
	}
	return nil
}

// opened reports whether a session had a replica of the server.
func (d *Directory) opened(id fleet.SessionID, server fleet.ServerName) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.records[id]
	return r != nil && slices.Contains(r.Opened, server)
}

// callerOf returns whose session it is, "" if that is not known.
func (d *Directory) callerOf(id fleet.SessionID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return r.Caller
	}
	return ""
}

// open records that a session of a caller has a replica of the server.
func (d *Directory) open(id fleet.SessionID, until time.Time, server fleet.ServerName, caller string) {
	now := time.Now()
	d.edit(id, until, func(r *fleet.SessionRecord) bool {
		if r.Ended {
			return false
		}
		if at, found := slices.BinarySearch(r.Opened, server); !found {
			r.Opened = slices.Insert(slices.Clone(r.Opened), at, server)
		}
		if r.Began.IsZero() {
			r.Began = now
		}
		r.Used, r.Caller = now, caller
		return true
	})
}

// edit changes the record of a session, and tells the other controllers if the function
// reports a change.
func (d *Directory) edit(id fleet.SessionID, until time.Time, change func(*fleet.SessionRecord) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.record(id, until)
	if !change(r) {
		return
	}
	r.Stamp = later(r.Stamp)
	d.post(id)
}

// record returns the record of a session, and makes it if there is none. It needs d.mu
// held, and so do the functions below.
func (d *Directory) record(id fleet.SessionID, until time.Time) *fleet.SessionRecord {
	r := d.records[id]
	if r == nil {
		d.makeRoom()
		r = &fleet.SessionRecord{ID: id, Until: until}
		d.records[id] = r
	}
	if until.After(r.Until) {
		r.Until = until
	}
	return r
}

// makeRoom drops records whose session is over, and another one if there are too many.
func (d *Directory) makeRoom() {
	now := time.Now()
	if now.Sub(d.purged) >= purgePeriod {
		d.purged = now
		for id, r := range d.records {
			if now.After(r.Until) {
				d.drop(id)
			}
		}
	}
	if len(d.records) < maxRecords {
		return
	}
	var first *fleet.SessionRecord
	looked := 0
	for _, r := range d.records { // in random order
		if first == nil || r.Until.Before(first.Until) {
			first = r
		}
		if looked++; looked == sample {
			break
		}
	}
	d.drop(first.ID)
}

func (d *Directory) drop(id fleet.SessionID) {
	delete(d.records, id)
	delete(d.changed, id)
	delete(d.told, id)
}

// post gives the change of a record a version, and wakes those that tell the others.
func (d *Directory) post(id fleet.SessionID) {
	d.version++
	d.changed[id] = d.version
	d.board.Post()
}
