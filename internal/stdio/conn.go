// Package stdio holds one JSON-RPC conversation with an MCP server over its stdin and stdout.
//
// Many calls share the pipe. Each gets an id of its own, is written as exactly one line, and is
// answered by the reply with that id, in whatever order replies come. A call ends exactly once, and
// says whether the server may have seen it.
//
// No call waits for another. Start writes a short line if the pipe takes it at once. Otherwise Start
// and Cancel only queue. One goroutine writes the queue and one reads, and nothing that the server
// sends can block the reader. So a server that stops reading its stdin fails only its own calls. Memory
// is bounded: by limits for the queue and for the length of a line, and by a budget that the
// conversations of a process share.
//
// The package does not start or stop the process, knows no deadlines, and does not act on a server
// that stops answering.
//
// Run owns both goroutines and has joined them when it returns. Every other method may be called at
// any time from anywhere.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// Defaults of Config.
const (
	// A line may carry 64 MiB and the envelope around it.
	DefaultMaxLine = 65 << 20
	// Large, because many callers may send large arguments at once. For a server
	// that has stopped reading, the deadlines of its calls bound the queue too.
	DefaultMaxQueue = 256 << 20
)

// maxAnswers bounds the answers to the server's own requests that wait to be written. Further ones
// are dropped. It is large, because one read may bring a thousand requests before the writer runs.
const maxAnswers = 4096

// Config configures a conversation. Close of In and Out must end a Read or Write in progress. That is
// so for net.Pipe, for io.Pipe, and for os.Pipe unless Fd was called.
type Config struct {
	In  io.WriteCloser // the server's stdin
	Out io.ReadCloser  // the server's stdout
	Log *slog.Logger   // nil discards

	MaxLine  int     // longer lines are discarded while they are read; 0 means DefaultMaxLine
	MaxQueue int     // bytes that may wait for stdin, though one message always may; 0 means DefaultMaxQueue
	Budget   *Budget // for lines over 64 KiB; nil means no limit

	ClientInfo mcp.Implementation
	// NoPing means that the server is never sent ping. It is sent tools/list instead.
	NoPing bool
	// OnNotification is called on the reader with each notification but progress, whoever owns the
	// conversation: it must not block, and params is only valid during the call. It may be nil.
	OnNotification func(method string, params []byte)
	// OnStray is called on the reader with the first lines that do not belong on the server's stdout: it
	// must not block. It may be nil.
	OnStray func(Stray)
	// Quote returns the first n bytes of a line of the server as text for people, with secrets masked.
	// nil masks nothing.
	Quote func(b []byte, n int) string
}

// Conn is one conversation.
type Conn struct {
	cfg     Config
	log     *slog.Logger
	lines   *lineReader
	direct  rawio.TryWriter // stdin, for writes that do not wait; nil if it offers none
	writers sync.WaitGroup  // calls of Start that write to direct
	out     batchWriter     // for whoever has set writing
	wake    chan struct{}   // the queue has changed
	noInput chan struct{}   // closed once nothing more will be written
	started atomic.Bool
	lastID  atomic.Uint64
	// answersPing is set once the server has answered a ping. ignoresPing is set once it has ignored one,
	// has never answered one, and has answered the request after it.
	answersPing, ignoresPing atomic.Bool
	// endedByPing is set if the server ended while its first ping was its only request.
	endedByPing atomic.Bool
	// unheard is set if the server ended and is known to have read nothing.
	unheard atomic.Bool
	// own is nil in the legacy era.
	own    atomic.Pointer[ownMeta]
	counts counters
	strays strays

	mu          sync.Mutex
	pending     map[uint64]*Pending // until the reply, or until the server has released it
	held        []*Pending          // cancelled calls that the server may still work on, oldest first
	queue       queue
	waiting     int  // bytes queued or being written
	answers     int  // answers queued or being written
	writing     bool // somebody writes out's batch to stdin
	refused     bool // stdin did not take out's batch at once: the writer's goroutine writes it
	inputClosed bool
	owner       *ownership // nil if there is none
}

// New returns a conversation. Calls may be started at once, and are written once Run runs.
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
	cfg.In, cfg.Out = rawio.Writer(cfg.In), rawio.Reader(cfg.Out)
	c := &Conn{
		cfg:     cfg,
		log:     cfg.Log,
		lines:   &lineReader{src: cfg.Out, maxLine: cfg.MaxLine, budget: cfg.Budget},
		wake:    make(chan struct{}, 1),
		noInput: make(chan struct{}),
		pending: make(map[uint64]*Pending),
	}
	c.out = batchWriter{conn: c, buf: make([]byte, 0, rawio.MaxTry)}
	c.direct, _ = cfg.In.(rawio.TryWriter)
	return c
}

// Run runs the conversation until the server's stdout or ctx ends, and closes both pipes. When it
// returns, every call has ended. It returns nil, or the error of a failed read.
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
	c.noteUnread()
	close(done)
	c.closePipes()
	owned.Wait()
	c.writers.Wait() // only then is it known which lines were written
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

// CloseInput closes the server's stdin, which asks a well-behaved server to end. Calls that were not
// yet written end with ErrNotDelivered. Replies are still read until the server's stdout ends.
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

// Start queues a call and returns at once. An error means that the call was certainly not delivered,
// and that Done will not be called: ErrClosed, ErrBackedUp, or a *mcp.SyntaxError or *mcp.TypeError
// for params that are not a valid object or array.
func (c *Conn) Start(call *Call) (*Pending, error) { return c.start(call, false) }

func (c *Conn) start(call *Call, quiet bool) (*Pending, error) {
	// If a failure below leaves the id unused, that does no harm.
	p := &Pending{id: c.lastID.Add(1), call: call, quiet: quiet}
	var err error
	if call.Progress {
		err = p.askForProgress(c.own.Load())
	} else {
		p.line[0], err = oneLine(call.Params)
	}
	if err != nil {
		return nil, fmt.Errorf("params: %w", err)
	}
	p.size = envelopeSize + len(call.Method) + len(p.line[0]) + len(p.line[1]) + len(p.line[2])

	direct := false
	c.mu.Lock()
	switch {
	case c.inputClosed:
		err = ErrClosed
	case c.waiting > 0 && c.waiting+p.size > c.cfg.MaxQueue:
		err = ErrBackedUp
	default:
		c.pending[p.id] = p
		direct = c.direct != nil && c.started.Load() && !c.writing && c.queue.first == nil && p.size <= rawio.MaxTry
		c.enqueue(p)
		if direct {
			c.writers.Add(1)
			c.takeBatch()
		}
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.counts.calls.Add(1)
	if direct {
		c.tryWrite()
		c.writers.Done()
	} else {
		c.signal()
	}
	return p, nil
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

// enqueue needs the lock. The caller then unlocks it and calls signal.
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

// Notify queues a notification. It fails with ErrClosed, ErrBackedUp, or an error of params that are
// not a valid object or array.
func (c *Conn) Notify(method string, params []byte) error {
	params, err := oneLine(params)
	if err != nil {
		return fmt.Errorf("params: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := notification(method, params)
	switch {
	case c.inputClosed:
		return ErrClosed
	case c.waiting > 0 && c.waiting+p.size > c.cfg.MaxQueue:
		return ErrBackedUp
	}
	c.enqueue(p)
	c.signal()
	return nil
}
