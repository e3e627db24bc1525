package sessions

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Listener returns the controller that has the newest stream on which a client waits for
// what belongs to no request, "" if none is known.
func (d *Directory) Listener(id fleet.SessionID) fleet.LifeID {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.records[id]; r != nil {
		return r.Listener
	}
	return ""
}

// SetListener records that a controller has the newest such stream, or that it has none
// any more.
func (d *Directory) SetListener(id fleet.SessionID, until time.Time, controller fleet.LifeID, listens bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.records[id]
	switch {
	case listens:
		if r = d.record(id, until); r.Ended || r.Listener == controller {
			return
		}
		r.Listener = controller
	case r == nil || r.Listener != controller:
		return
	default:
		r.Listener = ""
	}
	r.Listened = later(r.Listened)
	d.post(id)
}

// later returns a stamp that is later than one that was seen, whatever the clock says.
func later(stamp uint64) uint64 { return max(stamp+1, uint64(max(0, time.Now().UnixNano()))) }
