package mcphttp

import (
	"context"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// maxStreams bounds the GET streams of a session at this controller.
const maxStreams = 16

// directory has the GET streams of sessions at this controller, the oldest first. Only
// that one gets messages, because none may be sent twice. The zero value is ready, and all
// methods may be called at once.
type directory struct {
	board notice.Board // a stream may have become the first

	mu      sync.Mutex
	streams map[[16]byte][]*updates
}

// attach adds a stream of a session. It reports false if the session has too many.
func (d *directory) attach(uid [16]byte, u *updates) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.streams[uid]) >= maxStreams {
		return false
	}
	if d.streams == nil {
		d.streams = make(map[[16]byte][]*updates)
	}
	d.streams[uid] = append(d.streams[uid], u)
	return true
}

// detach removes a stream. The next one takes its place.
func (d *directory) detach(uid [16]byte, u *updates) {
	d.mu.Lock()
	rest := slices.DeleteFunc(d.streams[uid], func(other *updates) bool { return other == u })
	if d.streams[uid] = rest; len(rest) == 0 {
		delete(d.streams, uid)
	}
	d.mu.Unlock()
	d.board.Post()
}

// first returns the stream that gets the messages of a session, nil if there is none.
func (d *directory) first(uid [16]byte) *updates {
	d.mu.Lock()
	defer d.mu.Unlock()
	if all := d.streams[uid]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// awaitFirst waits until a stream is the first of its session. It reports false if ctx
// ended before.
func (d *directory) awaitFirst(ctx context.Context, uid [16]byte, u *updates) bool {
	look, cancel := d.board.Subscribe()
	defer cancel()
	for d.first(uid) != u {
		select {
		case <-look:
		case <-ctx.Done():
			return false
		}
	}
	return true
}
