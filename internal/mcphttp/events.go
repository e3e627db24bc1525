package mcphttp

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

const (
	// keepAlive keeps proxies from closing a quiet stream, and detects clients that are
	// gone.
	keepAlive = 15 * time.Second
	// maxQueued and maxQueuedBytes bound the events that wait for a slow client. Beyond
	// them notifications are dropped; an answer never is.
	maxQueued      = 256
	maxQueuedBytes = 1 << 20
)

// event is one server-sent event: a message, whose text is head, then all of stream,
// then tail.
type event struct {
	kind  string // "": message
	id    string // "" for none
	retry bool   // it tells the client to come back soon
	keep  bool   // it is not dropped, however slow the client is
	head  []byte
	body  io.Reader // may be nil
	tail  []byte
	// written is closed once the event is written, unless the stream ends before. It may
	// be nil.
	written chan struct{}
}

// events writes server-sent events to a client. Messages may be added at any time, and
// by any goroutine.
type events struct {
	w    *web.Response
	bare bool // only events of put have ids

	mu    sync.Mutex
	queue []event
	size  int
	ended bool
	wake  chan struct{} // holds a value when the queue has changed
}

func newEvents(w *web.Response) *events { return &events{w: w, wake: make(chan struct{}, 1)} }

// add adds a message. It reports false if it was dropped, because the stream has ended
// or the client is too slow.
func (s *events) add(e event) bool {
	if s.bare {
		e.id = ""
	}
	return s.put(e)
}

// put is add with the id that the event has.
func (s *events) put(e event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := len(s.queue) >= maxQueued || s.size > 0 && s.size+len(e.head) > maxQueuedBytes
	if s.ended || full && !e.keep {
		return false
	}
	s.append(e)
	return true
}

// end adds the last event. Later ones are dropped.
func (s *events) end(last ...event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	for _, e := range last {
		s.append(e)
	}
	s.ended = true
	s.post()
}

// append needs s.mu held.
func (s *events) append(e event) {
	s.queue = append(s.queue, e)
	s.size += len(e.head)
	s.post()
}

// post needs s.mu held.
func (s *events) post() {
	select {
	case s.wake <- struct{}{}:
	default: // there is one already
	}
}

// take returns the events that wait, and whether they are the last.
func (s *events) take() (queue []event, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue, s.queue, s.size = s.queue, nil, 0
	return queue, s.ended
}

// source is where a stream gets further events from. Nil channels and functions are
// none.
type source struct {
	gone    <-chan struct{} // closed when nobody reads any more
	look    <-chan struct{} // has a value when onLook may find events to add
	changed <-chan struct{} // the same
	first   <-chan struct{} // closed when it may
	onLook  func()
	leaving <-chan struct{} // closed when the stream is to end
	onLeave func()          // adds the last event
	stay    bool            // the stream goes on then, until end is called
}

// run begins the answer and writes events until end was called, the client left, or it
// does not read any more. Its error says that an event was not written in full.
func (s *events) run(from source) error {
	h := s.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	s.w.Begin(http.StatusOK, typeEvent, -1)
	beat := time.NewTicker(keepAlive)
	defer beat.Stop()
	for {
		queue, last := s.take()
		for i := range queue {
			if err := s.write(&queue[i]); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		if s.w.Flush() != nil {
			return nil
		}
		s.w.ClearDeadline()
		select {
		case <-s.wake:
			s.w.StartDeadline()
		case <-beat.C:
			s.w.StartDeadline()
			if _, err := s.w.Write([]byte(": keep-alive\n\n")); err != nil {
				return nil
			}
		case <-from.look:
			s.w.StartDeadline()
			from.onLook()
		case <-from.changed:
			s.w.StartDeadline()
			from.onLook()
		case <-from.first:
			s.w.StartDeadline()
			from.first = nil
			from.onLook()
		case <-from.leaving:
			s.w.StartDeadline()
			if from.onLeave != nil {
				from.onLeave()
			}
			if from.leaving = nil; !from.stay {
				s.end()
			}
		case <-from.gone:
			return nil
		}
	}
}

func (s *events) write(e *event) error {
	var b []byte
	if e.written != nil {
		defer close(e.written)
	}
	switch {
	case e.kind != "":
		b = append(append(append(b, "event: "...), e.kind...), '\n')
	case e.head != nil:
		b = append(b, "event: message\n"...)
	}
	if e.id != "" {
		b = append(append(append(b, "id: "...), e.id...), '\n')
	}
	if e.retry {
		b = append(b, "retry: 1000\n"...)
	}
	b = append(append(b, "data: "...), mcp.OneLine(e.head)...)
	if e.body != nil {
		if err := s.w.WriteAll(b); err != nil {
			return err
		}
		if err := s.w.Copy(oneLine{e.body}); err != nil {
			return err
		}
		b = nil
	}
	b = append(append(b, mcp.OneLine(e.tail)...), "\n\n"...)
	return s.w.WriteAll(b)
}

// oneLine reads JSON with spaces in place of line ends, which would end an event.
type oneLine struct{ io.Reader }

func (r oneLine) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	for _, c := range [...]byte{'\n', '\r'} {
		for rest := b[:n]; ; {
			i := bytes.IndexByte(rest, c)
			if i < 0 {
				break
			}
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
	return n, err
}

// notification returns the event of a notification. params may be nil.
func notification(method string, params []byte) event {
	return event{head: mcp.AppendNotification(nil, method, params)}
}
