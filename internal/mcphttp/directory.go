package mcphttp

import (
	"context"
	"slices"
	"sync"
)

// maxStreams bounds the GET streams of a session at this controller.
const maxStreams = 16

// directory has the GET streams of sessions at this controller, the oldest first. Only
// that one gets messages, because none may be sent twice. The zero value is ready, and all
// methods may be called at once.
type directory struct {
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
	if d.streams[uid] = append(d.streams[uid], u); d.streams[uid][0] == u {
		close(u.first)
	}
	return true
}

// detach removes a stream. The next one takes its place.
func (d *directory) detach(uid [16]byte, u *updates) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wasFirst := len(d.streams[uid]) > 0 && d.streams[uid][0] == u
	rest := slices.DeleteFunc(d.streams[uid], func(other *updates) bool { return other == u })
	if d.streams[uid] = rest; len(rest) == 0 {
		delete(d.streams, uid)
	} else if wasFirst {
		rest[0].before = u
		close(rest[0].first)
	}
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

// speaks reports whether it is this controller that sends a session's client what belongs
// to no request, because none may be sent twice. That is the one with the newest stream:
// clients open another one if the one before is dead, which its controller may not know yet.
func (f *Front) speaks(s *session) bool {
	at := f.cfg.Sessions.Listener(s.id())
	return at == "" || at == f.cfg.Self || f.cfg.Peer(at) == ""
}

// awaitFirst waits until a stream is the first of its session. It reports false if ctx
// ended before.
func (u *updates) awaitFirst(ctx context.Context) bool {
	select {
	case <-u.first:
		return true
	case <-ctx.Done():
		return false
	}
}

// isFirst reports whether a stream is the first of its session.
func (u *updates) isFirst() bool {
	select {
	case <-u.first:
		return true
	default:
		return false
	}
}
