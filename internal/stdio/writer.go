package stdio

import (
	"fmt"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

const (
	// batchSize is how much of the queue goes into one write. More than a pipe holds gains nothing, and
	// messages in a write can no longer be withdrawn.
	batchSize = 64 << 10
	// envelopeSize is an upper bound of the bytes around method and params.
	envelopeSize = 80
)

// notification returns a message without a reply.
func notification(method string, params []byte) *Pending {
	raw := append([]byte(`{"jsonrpc":"2.0","method":`), mcp.AppendString(nil, method)...)
	if len(params) > 0 {
		raw = append(append(raw, `,"params":`...), params...)
	}
	return plain(append(raw, '}'))
}

func plain(raw []byte) *Pending {
	return &Pending{line: [3][]byte{raw}, size: len(raw) + 1}
}

// write writes the queue to the pipe until the input is closed. Only write may block on the server's
// stdin.
func (c *Conn) write() {
	for {
		if !c.take() {
			select {
			case <-c.wake:
				continue
			case <-c.noInput:
				err := fmt.Errorf("%w: stdin is closed", ErrNotDelivered)
				if c.take() {
					c.out.begin()
					c.settle(err)
				}
				c.drop(err)
				return
			}
		}
		if err := c.out.send(); err != nil {
			c.settle(fmt.Errorf("%w: %w", ErrNotDelivered, err))
			c.CloseInput()
			continue // finds the input closed and drops the rest
		}
		c.settle(nil)
	}
}

// tryWrite writes the batch, one short line, if the pipe takes it at once. Otherwise it leaves that
// to write. This saves most calls the wake-up of another goroutine.
func (c *Conn) tryWrite() {
	if c.out.try(c.direct) {
		if c.settle(nil) {
			c.signal()
		}
		return
	}
	c.mu.Lock()
	c.refused = !c.inputClosed // else write may have ended
	refused := c.refused
	c.mu.Unlock()
	if refused {
		c.signal()
		return
	}
	c.settle(fmt.Errorf("%w: stdin is closed", ErrNotDelivered))
}

// take makes a batch of the queue, for the caller to write. It reports false if there is nothing to
// write, or somebody else writes.
func (c *Conn) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused {
		c.refused = false
		return true
	}
	if c.inputClosed || c.writing || c.queue.first == nil {
		return false
	}
	c.takeBatch()
	return true
}

// takeBatch moves the messages of one write from the queue to out. The caller writes them: c.mu is
// held, and writing was not set.
func (c *Conn) takeBatch() {
	c.writing = true
	c.out.batch = c.out.batch[:0]
	for size := 0; c.queue.first != nil && (size == 0 || size+c.queue.first.size <= batchSize); {
		p := c.queue.first
		c.queue.remove(p)
		p.phase = phaseWriting
		size += p.size
		c.out.batch = append(c.out.batch, p)
	}
}

// settle records the outcome of writing the batch, and lets others write: the lines within the first
// written bytes were sent, and the others end with err. A line without its line end counts as sent,
// because some servers accept such a last line. It reports whether more messages wait.
func (c *Conn) settle(err error) (more bool) {
	var failed []ending
	w := &c.out
	c.mu.Lock()
	for i, p := range w.batch {
		c.waiting -= p.size
		if p.answer {
			c.answers--
		}
		p.line = [3][]byte{}
		if i < len(w.ends) && w.ends[i]-1 <= w.written {
			p.phase = phaseWritten
		} else if _, waits := c.pending[p.id]; waits {
			delete(c.pending, p.id)
			failed = append(failed, p.take())
		}
	}
	clear(w.batch) // keep nothing that was sent
	c.writing = false
	more = c.queue.first != nil
	c.mu.Unlock()
	c.finishAll(failed, Reply{Err: err})
	return more
}

// drop ends all queued messages.
func (c *Conn) drop(err error) {
	c.mu.Lock()
	var failed []ending
	for p := c.queue.first; p != nil; p = c.queue.first {
		c.queue.remove(p)
		c.waiting -= p.size
		if _, waits := c.pending[p.id]; waits {
			delete(c.pending, p.id)
			failed = append(failed, p.take())
		}
	}
	c.mu.Unlock()
	c.finishAll(failed, Reply{Err: err})
}

// batchWriter joins a batch of messages into few writes. Large parts are not copied.
type batchWriter struct {
	conn    *Conn
	batch   []*Pending
	buf     []byte
	ends    []int // where in the batch's bytes each message ends
	widened bool
	planned int // bytes of the batch put into buf or written
	written int // bytes of the batch written
}

func (w *batchWriter) begin() { w.buf, w.ends, w.planned, w.written = w.buf[:0], w.ends[:0], 0, 0 }

func (w *batchWriter) send() error {
	w.begin()
	for _, p := range w.batch {
		if err := w.message(p); err != nil {
			return err
		}
	}
	return w.flush()
}

// try writes the batch, one short message, if the pipe takes it at once, and reports whether it did.
func (w *batchWriter) try(pipe rawio.TryWriter) bool {
	w.begin()
	err := w.message(w.batch[0])
	if err != nil || len(w.buf) > rawio.MaxTry || !pipe.TryWrite(w.buf) {
		return false
	}
	w.count(len(w.buf))
	return true
}

// message adds a message. It writes what came before large parts, and these.
func (w *batchWriter) message(p *Pending) error {
	if p.id != 0 {
		w.put(`{"jsonrpc":"2.0","id":`)
		w.add(strconv.AppendUint(w.buf, p.id, 10))
		w.put(`,"method":`)
		w.add(mcp.AppendString(w.buf, p.call.Method))
		if len(p.line[0])+len(p.line[1]) > 0 {
			w.put(`,"params":`)
		}
	}
	for _, part := range p.line {
		if len(part) < batchSize {
			w.add(append(w.buf, part...))
			continue
		}
		if err := w.flush(); err != nil {
			return err
		}
		if !w.widened {
			w.widened = true
			widen(w.conn.cfg.In)
		}
		if err := w.raw(part); err != nil {
			return err
		}
	}
	if p.id != 0 {
		w.put("}")
	}
	w.put("\n")
	w.ends = append(w.ends, w.planned)
	return nil
}

func (w *batchWriter) put(s string) { w.add(append(w.buf, s...)) }

// add takes buf with something appended.
func (w *batchWriter) add(grown []byte) {
	w.planned += len(grown) - len(w.buf)
	w.buf = grown
}

func (w *batchWriter) flush() error {
	w.planned -= len(w.buf)
	err := w.raw(w.buf)
	w.buf = w.buf[:0]
	return err
}

func (w *batchWriter) raw(b []byte) error {
	if len(b) == 0 {
		return nil // some pipes take an empty write as a message
	}
	w.planned += len(b)
	n, err := w.conn.cfg.In.Write(b)
	w.count(n)
	if err != nil {
		return fmt.Errorf("write to the server: %w", err)
	}
	return nil
}

func (w *batchWriter) count(written int) {
	w.written += written
	w.conn.counts.bytesOut.Add(int64(written))
}
