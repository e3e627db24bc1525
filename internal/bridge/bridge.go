// Package bridge connects an MCP client that speaks stdio to an MCP endpoint that
// speaks Streamable HTTP, in both eras of the protocol. It reads the client's
// messages line by line, sends each as a POST, and writes what comes back as
// lines. Messages pass as raw JSON: nothing is decoded and encoded again.
//
// The endpoint may have several addresses, those of the controllers of a fleet. A
// request goes to another one only if it surely was not sent, or if it only reads.
// Streams of legacy sessions go on with Last-Event-ID, a session that the server
// has forgotten begins again with the client's own initialize, and a modern
// subscription is sent again. The client sees none of that. Every request that
// fails gets a JSON-RPC error with its id.
//
// Memory is bounded, see buffer.go and room.go. Run owns every goroutine.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// lastAnswers is how long requests may take on after the end of the input.
	lastAnswers = 10 * time.Second
	// farewell bounds the DELETE of the session at the end. Clients kill a server
	// that stays for more than some 2 s.
	farewell = 1500 * time.Millisecond
)

// Config is what a bridge connects.
type Config struct {
	In  io.Reader
	Out io.Writer
	// URLs are the addresses of the MCP endpoint, at least one.
	URLs   []string
	Client http.RoundTripper // nil is NewTransport
	Agent  string            // the User-Agent
	Log    *slog.Logger
}

// bridge is one run.
type bridge struct {
	ctx     context.Context // of Run: sessions begin again for several requests
	log     *slog.Logger
	out     *output
	ends    *endpoints
	session *session
	tools   tools
	calls   calls
	room    room
	places  places
	posts   chan *delivery
	earlier <-chan struct{} // closed when the notifications read so far were delivered, and an initialize was answered; owned by the reader
	version string          // of the last modern request; owned by the reader

	starting   sync.Mutex     // held while a goroutine joins a group, and while ctx ends
	requests   sync.WaitGroup // requests of the client, without subscriptions
	background sync.WaitGroup // all else
}

var errEnds = errors.New("the bridge ends")

// Run connects until the input ends, ctx ends, or the output cannot be written to.
// It returns nil in the first two cases.
func Run(ctx context.Context, cfg Config) error {
	client := cfg.Client
	if client == nil {
		t := NewTransport()
		defer t.CloseIdleConnections()
		client = t
	}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(errEnds)
	b := &bridge{
		ctx: inner, log: cfg.Log, out: newOutput(cfg.Out),
		ends:    &endpoints{urls: cfg.URLs, client: client, agent: cfg.Agent},
		session: newSession(), places: newPlaces(), posts: make(chan *delivery, maxPosts),
	}
	b.background.Go(b.post)
	b.background.Go(b.follow)
	read := make(chan error, 1)
	go func() { read <- b.read(newLines(cfg.In)) }() // ends with the input, which nobody can interrupt
	var err error
	select {
	case err = <-read:
		b.wait(ctx)
	case <-ctx.Done():
	case <-b.out.failed:
		err = fmt.Errorf("write to the client: %w", b.out.problem())
	}
	b.starting.Lock()
	cancel(errEnds)
	b.starting.Unlock()
	b.join()
	b.leave(b.session.pass())
	return err
}

// wait waits until the requests of the client are answered, but not for long.
func (b *bridge) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.requests.Wait()
		if b.earlier != nil { // the reader, which owns it, has ended
			select {
			case <-b.earlier:
			case <-b.ctx.Done():
			}
		}
	}()
	timer := time.NewTimer(lastAnswers)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		b.log.Warn("the input has ended; requests without an answer are given up")
	case <-b.out.failed:
	case <-ctx.Done():
	}
}

// leave ends a legacy session.
func (b *bridge) leave(old pass) {
	if old.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), farewell)
	defer cancel()
	h := http.Header{}
	old.addTo(h)
	resp, err := b.ends.send(ctx, http.MethodDelete, h, nil)
	if err != nil {
		b.log.Debug("the session was not ended", "err", err)
		return
	}
	resp.Body.Close()
}

// read reads the client's messages until the input ends.
func (b *bridge) read(in *lines) error {
	for {
		line, err := in.next()
		if long, ok := errors.AsType[*tooLongLine](err); ok {
			b.log.Warn("a message of the client was dropped", "err", err)
			if long.request {
				b.out.message(failf(codeTooLarge, "%s", errTooLong).reply(long.id))
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from the client: %w", err)
		}
		b.take(line)
	}
}

// take handles one line of the client.
func (b *bridge) take(line []byte) {
	m, err := parse(line)
	switch {
	case err != nil:
		b.refuse(line, err)
	case m.env.Kind == mcp.KindBatch: // of 2025-03-26; its messages stand alone, too
		_ = mcp.Elements(line, func(one []byte) bool {
			if mcp.TypeOf(one) == "array" {
				b.refuse(one, mcp.ErrNotMessage)
			} else {
				b.take(one)
			}
			return true
		})
	case m.env.Kind == mcp.KindRequest:
		b.begin(m)
	case m.method == mcp.MethodCancelled:
		b.calls.cancel(b, m)
	default:
		b.hand(m)
	}
}

// refuse answers a line that is not a message. An answer without an id would
// help nobody, so then it is only logged.
func (b *bridge) refuse(line []byte, err error) {
	b.log.Warn("the client sent a line that is not a message", "err", err)
	var f mcp.Finder
	f.Feed(line)
	if f.ID() == nil || f.Reply() {
		return
	}
	code := mcp.CodeInvalidRequest
	if _, syntax := errors.AsType[*mcp.SyntaxError](err); syntax {
		code = mcp.CodeParseError
	}
	b.out.message(failf(code, "%s", err).reply(f.ID()))
}

// begin starts a request of the client.
func (b *bridge) begin(m *message) {
	if !b.room.take(len(m.line)) {
		b.out.message(failf(codeOverloaded, "too many requests at once: %s", &b.room).reply(m.env.ID))
		return
	}
	if m.modern() {
		b.version = m.version
	}
	c := b.calls.add(b, m, b.earlier)
	if m.method == mcp.MethodInitialize {
		b.earlier = c.done // whatever comes next is of its session
	}
	group := &b.requests
	if m.method == mcp.MethodListen {
		group = &b.background
	}
	if !b.start(group, func() {
		c.run()
		b.room.leave(len(m.line)) // 0 if the line was freed
	}) {
		c.cancel(errEnds)
		close(c.done)
	}
}

// start runs f in a goroutine of a group, unless the bridge ends. What f still
// does then has no effect.
func (b *bridge) start(group *sync.WaitGroup, f func()) bool {
	b.starting.Lock()
	defer b.starting.Unlock()
	if b.ctx.Err() != nil {
		return false
	}
	group.Go(f)
	return true
}

// join waits for all goroutines. A client that does not read may block them, so
// join gives up after a while.
func (b *bridge) join() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.requests.Wait()
		b.background.Wait()
	}()
	timer := time.NewTimer(farewell)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		b.log.Warn("the client does not read; what was left for it is lost")
	}
}
