// Package stdio holds one JSON-RPC conversation with an MCP server over its stdin and stdout.
//
// Many calls share the pipe: each gets an id of its own, is written as exactly one line, and is
// answered by the reply with that id, in whatever order replies come. A call ends exactly once, and
// says whether the server may have seen it. Nobody waits for another's call: Start and Cancel only
// queue, one goroutine alone writes, and one alone reads, which nothing the server sends can block.
// A server that stops reading its stdin thus costs its own callers their calls and nobody else
// anything. Memory is bounded: in what waits to be written, in the length of a line, and by a budget
// that the conversations of a process share.
//
// It leaves to others: the process, deadlines, and what becomes of a server that answers nothing.
//
// Run owns both goroutines and has joined them when it returns; every other method may be called at
// any time from anywhere.
package stdio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Defaults of Config.
const (
	// A line may carry 64 MiB and what JSON-RPC puts around it.
	DefaultMaxLine = 65 << 20
	// Many callers with large arguments at once are no fault of the server's;
	// a server that has stopped reading is bounded by its calls' deadlines too.
	DefaultMaxQueue = 256 << 20
)

// maxAnswers bounds the answers to a server's own requests that wait for it to read. A server that
// asks without reading loses the rest. It is large, because one read may bring a thousand requests
// before the writer has had its turn.
const maxAnswers = 4096

// Config is what a conversation needs. In and Out must be such that Close ends a Read or Write in
// progress, which is so for os.Pipe as long as nobody calls Fd, for net.Pipe and io.Pipe.
type Config struct {
	In  io.WriteCloser // the server's stdin
	Out io.ReadCloser  // the server's stdout
	Log *slog.Logger   // nil discards

	MaxLine  int     // longer lines are discarded while they are read; 0 means DefaultMaxLine
	MaxQueue int     // bytes that may wait for stdin, though one message always may; 0 means DefaultMaxQueue
	Budget   *Budget // for lines over 64 KiB; nil means no limit

	ClientInfo mcp.Implementation
	// NoPing means that the server is never sent ping. It is asked for its tools instead.
	NoPing bool
	// OnNotification is called on the reader with each notification but progress, whoever owns the
	// conversation: it must not block, and params is only valid during the call. It may be nil.
	OnNotification func(method string, params []byte)
	// OnStray is called on the reader with the first lines that do not belong on the server's stdout: it
	// must not block. It may be nil.
	OnStray func(Stray)
	// Quote turns the first n bytes of what the server sent into text for people. Whoever knows secrets
	// of the server masks them there. nil means as it is.
	Quote func(b []byte, n int) string
}

// Conn is one conversation.
type Conn struct {
	cfg     Config
	log     *slog.Logger
	lines   *lineReader
	wake    chan struct{} // "look at the queue again"
	noInput chan struct{} // closed once nothing more will be written
	started atomic.Bool
	lastID  atomic.Uint64
	// answersPing is set once the server has answered a ping; ignoresPing once it has ignored one, never
	// answered one, and answered what it was asked next.
	answersPing, ignoresPing atomic.Bool
	// endedByPing is set when the server ended with nothing to do but its first ping.
	endedByPing atomic.Bool
	counts      counters
	strays      strays

	mu          sync.Mutex
	pending     map[uint64]*Pending // until the reply, or until the server let go of it
	held        []*Pending          // cancelled calls that the server may still work on, oldest first
	queue       queue
	waiting     int // bytes queued or being written
	answers     int // answers queued or being written
	inputClosed bool
	owner       Owner                       // nil: nobody
	asked       map[*ServerRequest]struct{} // that wait for the owner's answer
}

// New prepares a conversation. Calls may be started at once; they move when Run runs.
func New(cfg Config) *Conn {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxLine == 0 {
		cfg.MaxLine = DefaultMaxLine
	}
	if cfg.MaxQueue == 0 {
		cfg.MaxQueue = DefaultMaxQueue
	}
	if cfg.Quote == nil {
		cfg.Quote = quote
	}
	return &Conn{
		cfg:     cfg,
		log:     cfg.Log,
		lines:   &lineReader{src: cfg.Out, maxLine: cfg.MaxLine, budget: cfg.Budget},
		wake:    make(chan struct{}, 1),
		noInput: make(chan struct{}),
		pending: make(map[uint64]*Pending),
	}
}

// Run carries the conversation until the server's stdout ends or ctx does, and closes both pipes. When
// it returns, every call has ended. Both ends are orderly and return nil; the error of a read that
// failed otherwise is returned.
func (c *Conn) Run(ctx context.Context) error {
	if c.started.Swap(true) {
		return errors.New("a conversation can run only once")
	}
	done := make(chan struct{})
	var owned sync.WaitGroup
	owned.Go(c.write)
	owned.Go(func() {
		select {
		case <-ctx.Done():
			c.closePipes()
		case <-done:
		}
	})
	err := c.read()
	close(done)
	c.closePipes()
	owned.Wait() // only then is it known which lines were written
	c.endAll()
	if ctx.Err() != nil {
		return nil
	}
	return ended(err)
}

func (c *Conn) closePipes() {
	c.CloseInput()
	c.close("stdout", c.cfg.Out)
}

func (c *Conn) close(name string, pipe io.Closer) {
	if err := ended(pipe.Close()); err != nil {
		c.log.Debug("close pipe", "pipe", name, "err", err)
	}
}

// CloseInput closes the server's stdin, which asks a well-behaved one to end. What was not yet written
// ends with ErrNotDelivered; replies are still taken until the server's stdout ends.
func (c *Conn) CloseInput() {
	if c.stopInput() {
		c.close("stdin", c.cfg.In)
	}
}

func (c *Conn) stopInput() (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inputClosed {
		return false
	}
	c.inputClosed = true
	close(c.noInput)
	return true
}

// Start queues a call and returns at once. An error means that the call was surely not delivered
// and Done will not be called: ErrClosed, ErrBackedUp, or a *mcp.SyntaxError or *mcp.TypeError for
// params that are no valid object or array.
func (c *Conn) Start(call *Call) (*Pending, error) { return c.start(call, false) }

func (c *Conn) start(call *Call, quiet bool) (*Pending, error) {
	// An id that a failure below leaves unused does no harm.
	p := &Pending{id: c.lastID.Add(1), call: call, quiet: quiet}
	var err error
	if call.Progress {
		err = p.askForProgress()
	} else {
		p.line[0], err = oneLine(call.Params)
	}
	if err != nil {
		return nil, fmt.Errorf("params: %w", err)
	}
	p.size = envelopeSize + len(call.Method) + len(p.line[0]) + len(p.line[1]) + len(p.line[2])

	c.mu.Lock()
	switch {
	case c.inputClosed:
		err = ErrClosed
	case c.waiting > 0 && c.waiting+p.size > c.cfg.MaxQueue:
		err = ErrBackedUp
	default:
		c.pending[p.id] = p
		c.enqueue(p)
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.counts.calls.Add(1)
	c.signal()
	return p, nil
}

// askForProgress makes the line of the call's params with a progress token. One scan of the params
// checks them and finds where it belongs. Params without _meta were checked by the controller, and
// are not scanned. Were they wrong all the same, their sender would harm its own call only, because
// they are still one line.
func (p *Pending) askForProgress() error {
	if len(p.call.Params) > 0 && mcp.TypeOf(p.call.Params) == "nothing" {
		return mcp.Valid(p.call.Params) // blank, which is not the same as none
	}
	own := strconv.AppendUint(nil, p.id, 10)
	s, known := mcp.Spliced{}, false
	var token []byte
	if p.call.NoMeta {
		s, known = mcp.AddProgressToken(p.call.Params, own)
	}
	if !known {
		var err error
		if s, token, err = mcp.WithProgressToken(p.call.Params, own); err != nil {
			return err
		}
	}
	if p.call.OnNotification != nil {
		p.token = bytes.Clone(token) // params are the caller's again when the call has ended
	}
	p.line = [3][]byte{mcp.OneLine(s.Before), s.Insert, mcp.OneLine(s.After)}
	return nil
}

// oneLine checks params and returns them as one line.
func oneLine(params []byte) ([]byte, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if err := mcp.Valid(params); err != nil {
		return nil, err
	}
	if t := mcp.TypeOf(params); t != "object" && t != "array" {
		return nil, &mcp.TypeError{Want: "object", Got: t}
	}
	return mcp.OneLine(params), nil
}

// enqueue needs the lock; signal must follow without it.
func (c *Conn) enqueue(p *Pending) {
	c.queue.push(p)
	c.waiting += p.size
}

func (c *Conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Notify queues a notification.
func (c *Conn) Notify(method string, params []byte) error {
	params, err := oneLine(params)
	if err != nil {
		return fmt.Errorf("params: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inputClosed {
		return ErrClosed
	}
	c.enqueue(notification(method, params))
	c.signal()
	return nil
}
