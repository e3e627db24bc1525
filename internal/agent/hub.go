package agent

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// hub connects the server of a session's replica with the session's client. What the server
// says about a call goes to the stream of the session's latest call in flight, because
// messages of the legacy era do not name their call. Everything else goes to the session's
// own stream. The client's messages come by send.
type hub struct {
	session fleet.SessionID
	once    bool // it has one call
	conn    *stdio.Conn
	own     *stream

	mu    sync.Mutex
	calls []*stream              // in flight, oldest first
	mute  int                    // calls in flight without a stream: of REST, which cannot answer
	open  map[string]openRequest // the server's requests that wait for the client, by raw id
	ended bool
}

// openRequest is a request of the server, and the stream that has it.
type openRequest struct {
	*stdio.ServerRequest
	stream *stream
}

// openHub makes the replica's conversation that of the session.
func (r *replica) openHub(start *fleet.SessionStart) error {
	h := &hub{session: start.Session, once: start.Once, conn: r.conn, open: map[string]openRequest{}}
	h.own = newStream(r.streams, fleet.SessionStream(start.Session, r.order.Server), string(start.Session), 0)
	h.own.ofSession = true
	h.own.log.last = r.streams.firstNumber()
	if _, err := r.conn.Own(h); err != nil {
		return fmt.Errorf("open the session: %w", err)
	}
	if old := r.streams.put(h.own); old != nil {
		old.close() // of a replica of the session that is about to end
	}
	r.hub.Store(h)
	return nil
}

// closeHub ends the session's stream, because the replica has ended.
func (r *replica) closeHub() {
	h := r.hub.Load()
	if h == nil {
		return
	}
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.own.close()
}

// begin and finish bracket a call of the session, which may have no stream.
func (h *hub) begin(st *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st == nil {
		h.mute++
		return
	}
	h.calls = append(h.calls, st)
}

func (h *hub) finish(st *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if st == nil {
		h.mute--
		return
	}
	h.calls = slices.DeleteFunc(h.calls, func(o *stream) bool { return o == st })
}

// Request implements stdio.Owner. If the session has no client that could answer, the
// request is refused as it is at shared replicas.
func (h *hub) Request(r *stdio.ServerRequest) {
	h.mu.Lock()
	alone := h.mute > 0 && len(h.calls) == 0
	h.mu.Unlock()
	if alone {
		_ = r.Fail((&mcp.Error{Code: mcp.CodeMethodNotFound, Message: "method not found: " + r.Method}).Append(nil)) // it fails only if the server has gone
		return
	}
	e := fleet.CallEvent{Kind: fleet.CallAsk, ID: r.ID, Method: r.Method, Params: r.Params}
	h.deliver(e, func(st *stream) { h.open[string(r.ID)] = openRequest{r, st} })
}

// Notification implements stdio.Owner.
func (h *hub) Notification(method string, params []byte) {
	e := fleet.CallEvent{Kind: fleet.CallNotification, Method: method, Params: bytes.Clone(params)}
	switch {
	case method == mcp.MethodCancelled:
		h.withdraw(e)
	case isNews(method):
		h.own.event(e)
	default:
		h.deliver(e, func(*stream) {})
	}
}

// deliver passes an event to the latest call that takes it, or to the session's stream.
// It first calls with, with the lock.
func (h *hub) deliver(e fleet.CallEvent, with func(*stream)) {
	for {
		h.mu.Lock()
		st := h.own
		if n := len(h.calls); n > 0 {
			st = h.calls[n-1]
		}
		with(st)
		h.mu.Unlock()
		if st.take(e) || st == h.own {
			return
		}
		h.finish(st) // it has just been cancelled
	}
}

// withdraw passes on that the server gives up a request of its own.
func (h *hub) withdraw(e fleet.CallEvent) {
	found, err := mcp.Fields(e.Params, "requestId")
	if err != nil || found[0] == nil {
		return
	}
	r, waits := h.takeOpen(found[0])
	if !waits {
		return
	}
	r.Forget()
	h.resolved(r)
	r.stream.event(e)
}

// takeOpen takes the request with this raw id off those that wait.
func (h *hub) takeOpen(id []byte) (openRequest, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, waits := h.open[string(id)]
	delete(h.open, string(id))
	return r, waits
}

// resolved takes a request off its stream. If it was the last that its call waited for,
// the call's deadline counts again.
func (h *hub) resolved(r openRequest) {
	if r.stream.answered(r.ID) && r.stream != h.own {
		r.stream.event(fleet.CallEvent{Kind: fleet.CallResumed})
	}
}

// send passes a message of the client to the server: a notification, or the answer to a
// request. It fails with fleet.ErrInvalid, fleet.ErrNotAsked, fleet.ErrOverloaded or
// fleet.ErrUnknownReplica.
func (h *hub) send(message []byte) error {
	env, err := mcp.Scan(message)
	if err != nil {
		return fmt.Errorf("%w: %w", fleet.ErrInvalid, err)
	}
	switch env.Kind {
	case mcp.KindNotification:
		switch method := string(env.Method); method {
		case mcp.MethodCancelled: // names a request by the client's id
		case mcp.MethodInitialized: // was sent with initialize
		default:
			err = h.conn.Notify(method, env.Params)
		}
	case mcp.KindResponse, mcp.KindErrorResponse:
		r, waits := h.takeOpen(env.ID)
		if !waits {
			return fmt.Errorf("%w: id %.40q", fleet.ErrNotAsked, env.ID)
		}
		if env.Kind == mcp.KindResponse {
			err = r.Answer(env.Result)
		} else {
			err = r.Fail(env.Error)
		}
		h.resolved(r)
	default:
		return fmt.Errorf("%w: neither a notification nor an answer", fleet.ErrInvalid)
	}
	switch {
	case errors.Is(err, stdio.ErrClosed):
		return fmt.Errorf("%w: %w", fleet.ErrUnknownReplica, err)
	case errors.Is(err, stdio.ErrBackedUp):
		return fmt.Errorf("%w: %w", fleet.ErrOverloaded, err)
	}
	return err
}

// SendToSession passes a message of a session's client to the session's replica.
func (a *Agent) SendToSession(session fleet.SessionID, id fleet.ReplicaID, message []byte) error {
	if r := a.replica(id); r != nil {
		if h := r.hub.Load(); h != nil && h.session == session {
			return h.send(message)
		}
	}
	return fmt.Errorf("message to replica %s: %w", id, fleet.ErrUnknownReplica)
}
