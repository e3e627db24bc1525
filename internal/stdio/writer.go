package stdio

import (
	"fmt"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
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
	w := batchWriter{conn: c, buf: make([]byte, 0, 4096)}
	for {
		batch := c.take(w.batch[:0])
		if len(batch) == 0 {
			select {
			case <-c.wake:
				continue
			case <-c.noInput:
				c.drop(fmt.Errorf("%w: stdin is closed", ErrNotDelivered))
				return
			}
		}
		w.batch = batch
		if err := w.send(); err != nil {
			c.settle(w.batch, w.ends, w.written, fmt.Errorf("%w: %w", ErrNotDelivered, err))
			c.CloseInput()
			continue // finds the input closed and drops the rest
		}
		c.settle(w.batch, w.ends, w.written, nil)
		clear(w.batch) // keep nothing that was sent
	}
}

// take moves the messages of one write from the queue to batch.
func (c *Conn) take(batch []*Pending) []*Pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inputClosed {
		return nil
	}
	for size := 0; c.queue.first != nil && (size == 0 || size+c.queue.first.size <= batchSize); {
		p := c.queue.first
		c.queue.remove(p)
		p.phase = phaseWriting
		size += p.size
		batch = append(batch, p)
	}
	return batch
}

// settle records the outcome of a write: the lines within the first written bytes were sent, and the
// others end with err. A line without its line end counts as sent, because some servers accept such
// a last line.
func (c *Conn) settle(batch []*Pending, ends []int, written int, err error) {
	var failed []ending
	c.mu.Lock()
	for i, p := range batch {
		c.waiting -= p.size
		if p.answer {
			c.answers--
		}
		p.line = [3][]byte{}
		if i < len(ends) && ends[i]-1 <= written {
			p.phase = phaseWritten
		} else if _, waits := c.pending[p.id]; waits {
			delete(c.pending, p.id)
			failed = append(failed, p.take())
		}
	}
	c.mu.Unlock()
	c.finishAll(failed, Reply{Err: err})
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

func (w *batchWriter) send() error {
	w.ends, w.planned, w.written = w.ends[:0], 0, 0
	for _, p := range w.batch {
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
	}
	return w.flush()
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
	w.written += n
	w.conn.counts.bytesOut.Add(int64(n))
	if err != nil {
		return fmt.Errorf("write to the server: %w", err)
	}
	return nil
}
