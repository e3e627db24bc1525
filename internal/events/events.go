// Package events keeps the last things that happened in the fleet, for people and
// programs that follow them. The leader records events and numbers them. All other
// controllers copy its log, so that clients find the same events under the same ids
// on each of them, also after the leader has died.
//
// Events are in the order of their ids, each at most once. A reader that asks for
// the events after an id learns if some may be missing. Events live in memory only:
// those that a leader had recorded and no other controller had copied are lost with
// it. A controller that starts begins with what the leader still has. Memory is
// bounded by the number of events and the length of their messages.
//
// The package starts no goroutine. All methods may be called at once.
package events

import (
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Limits of what is kept.
const (
	MaxEvents  = 10_000
	maxMessage = 1 << 10 // bytes; longer messages are cut
)

// Event is one thing that happened.
type Event = api.Event

// Log keeps the newest events, oldest first.
type Log struct {
	max   int
	board notice.Board

	mu      sync.Mutex
	ring    []entry // oldest at start, once it is full
	start   int
	last    ID
	leading fleet.Epoch // 0: not leading
}

type entry struct {
	id    ID
	event Event
}

// New returns an empty log that keeps max events.
func New(max int) *Log { return &Log{max: max} }

// Lead makes this controller the one that records, in the term of its tenure. Ids
// of a term begin at 1. The returned function ends the tenure.
func (l *Log) Lead(term fleet.Epoch) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leading = term
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.leading == term {
			l.leading = 0
		}
	}
}

// Record adds an event of this controller's tenure under the next id, and sets its
// time if it has none. Without a tenure, or after events of a later one have
// arrived, Record does nothing: another leader records what happens.
func (l *Log) Record(e Event) {
	l.mu.Lock()
	id := ID{l.leading, 1}
	if l.last.Term == l.leading {
		id.Seq = l.last.Seq + 1
	}
	if l.leading == 0 || l.last.Term > l.leading {
		l.mu.Unlock()
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l.add(id, e)
	l.mu.Unlock()
	l.board.Post()
}

// Import adds an event as the leader recorded it. It ignores events whose id is not
// above the last, or is not an id.
func (l *Log) Import(e Event) {
	id, err := ParseID(e.ID)
	if err != nil {
		return
	}
	l.mu.Lock()
	if id.Compare(l.last) <= 0 {
		l.mu.Unlock()
		return
	}
	l.add(id, e)
	l.mu.Unlock()
	l.board.Post()
}

// add appends an event. The caller holds the lock.
func (l *Log) add(id ID, e Event) {
	e.ID, e.Message = id.String(), cut(e.Message)
	l.last = id
	if len(l.ring) < l.max {
		l.ring = append(l.ring, entry{id, e})
		return
	}
	l.ring[l.start] = entry{id, e}
	l.start = (l.start + 1) % l.max
}

// cut shortens a message between two characters. The result is a copy, because part
// of a long string would keep all of it in memory.
func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	const more = "..."
	return strings.ToValidUTF8(s[:maxMessage-len(more)], "") + more
}

// Since returns the events that are kept and newer than an id, or all with "". It
// reports a gap if there may have been events that it cannot return: the id is
// unknown, or some were never copied from the leader. To continue after a gap
// without events, use the Last from before the call. An id that this log never
// reaches would find nothing for ever.
func (l *Log) Since(id string) (events []Event, gap bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, known := 0, false
	if id != "" {
		if after, err := ParseID(id); err == nil { // else return all
			from, known = l.search(after)
		}
		gap = !known
	}
	if known {
		from++
	}
	events = make([]Event, 0, len(l.ring)-from)
	for i := from; i < len(l.ring); i++ {
		here := l.at(i)
		if (i > from || known) && !follows(l.at(i-1).id, here.id) {
			gap = true
		}
		events = append(events, here.event)
	}
	return events, gap
}

// follows reports whether no event can be missing between two ids. Sequences have
// no holes, and begin at 1 in each term.
func follows(before, after ID) bool {
	if before.Term == after.Term {
		return after.Seq == before.Seq+1
	}
	return after.Seq == 1
}

// search returns the place of an id among those kept. The caller holds the lock.
func (l *Log) search(id ID) (place int, found bool) {
	low, high := 0, len(l.ring)
	for low < high {
		mid := (low + high) / 2
		if l.at(mid).id.Compare(id) < 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(l.ring) && l.at(low).id == id
}

// at returns the i-th oldest entry. The caller holds the lock.
func (l *Log) at(i int) *entry { return &l.ring[(l.start+i)%len(l.ring)] }

// Last returns the id of the newest event, "" before the first.
func (l *Log) Last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == (ID{}) {
		return ""
	}
	return l.last.String()
}

// Subscribe returns a channel that gets a value after each new event; see
// notice.Board.
func (l *Log) Subscribe() (look <-chan struct{}, cancel func()) { return l.board.Subscribe() }
