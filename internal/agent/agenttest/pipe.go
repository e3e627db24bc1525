package agenttest

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// pipeSize is what a pipe holds before a writer waits, as on Linux: a server
// that answers before its reader comes must not block, and one that stops
// reading must block its writer at last.
const pipeSize = 64 << 10

// pipe is a pipe in memory with a kernel pipe's manners. It waits on condition
// variables only, so that a blocked end lets the clock of a synctest bubble
// run.
type pipe struct {
	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte
	wclosed bool // no more is written: reads drain buf, then EOF
	rclosed bool // nobody reads: writes fail
	unread  int  // when rclosed was set
}

func newPipe() *pipe {
	p := new(pipe)
	p.changed = sync.NewCond(&p.mu)
	return p
}

// readEnd and writeEnd are the two ends. Each may be closed more than once,
// and at any time, which wakes whoever waits on either end.
type (
	readEnd  struct{ *pipe }
	writeEnd struct{ *pipe }
)

var errClosedEnd = errors.New("file already closed")

func (r readEnd) Read(b []byte) (int, error) {
	p := r.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.rclosed:
			return 0, errClosedEnd
		case len(b) == 0:
			return 0, nil
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			if len(p.buf) == 0 {
				p.buf = nil // the array is given back: many idle pipes cost nothing
			}
			p.changed.Broadcast()
			return n, nil
		case p.wclosed:
			return 0, io.EOF
		}
		p.changed.Wait()
	}
}

func (r readEnd) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rclosed {
		r.unread = len(r.buf)
	}
	r.rclosed = true
	r.buf = nil
	r.changed.Broadcast()
	return nil
}

func (w writeEnd) Write(b []byte) (n int, err error) {
	p := w.pipe
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.wclosed:
			return n, errClosedEnd
		case p.rclosed:
			return n, syscall.EPIPE
		case len(b) == 0:
			return n, nil
		}
		if room := pipeSize - len(p.buf); room > 0 {
			part := b[:min(room, len(b))]
			p.buf = append(p.buf, part...)
			n, b = n+len(part), b[len(part):]
			p.changed.Broadcast()
			continue
		}
		p.changed.Wait()
	}
}

// Unread returns how many bytes nobody has read, as rawio.Pipe does.
func (w writeEnd) Unread() (n int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.buf) + w.unread, true
}

func (w writeEnd) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wclosed = true
	w.changed.Broadcast()
	return nil
}
