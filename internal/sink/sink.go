// Package sink writes a program's log without blocking the program. A Sink takes
// lines at once, and one goroutine writes them. When the reader stops (a full
// pipe, a stopped terminal, a hung disk), lines that do not fit the buffer are
// dropped and counted. The count is written when the reader is back.
//
// In normal operation nothing is dropped: the buffer absorbs bursts, and Close
// writes the rest. The Go runtime writes panics directly, not through the sink.
package sink

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultBuffer is how many bytes are buffered while the reader does not read.
	DefaultBuffer = 4 << 20
	// atomicWrite bounds one write. Up to this size (PIPE_BUF), lines of several
	// programs that share a pipe do not mix.
	atomicWrite = 4096
)

// Config is what a Sink needs.
type Config struct {
	Out io.Writer
	// Buffer bounds the buffered bytes; 0 means DefaultBuffer.
	Buffer int
	// Dropped returns the line that reports how many lines were dropped. nil
	// means a plain line of text.
	Dropped func(lines int) []byte
}

// Sink is an io.Writer whose Write never blocks and never fails. One Write is one
// or several lines, which are kept or dropped together. Its methods may be called
// at any time.
type Sink struct {
	out     io.Writer
	buffer  int
	look    chan struct{} // wakes the writer; capacity 1
	written chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	report  func(lines int) []byte
	queue   []line
	bytes   int    // in the queue and in the write under way
	dropped int    // lines dropped and not reported yet
	total   uint64 // lines ever dropped
	closed  bool
}

// line is the text of one Write, or a report.
type line struct {
	text   []byte
	count  int // lines that are lost with it; for a report, the lines that it reports
	report bool
}

// New returns a Sink and starts its writer, which Close ends.
func New(cfg Config) *Sink {
	s := &Sink{
		out: cfg.Out, buffer: cfg.Buffer, report: cfg.Dropped,
		look: make(chan struct{}, 1), written: make(chan struct{}),
	}
	if s.buffer <= 0 {
		s.buffer = DefaultBuffer
	}
	if s.report == nil {
		s.report = func(lines int) []byte { return fmt.Appendf(nil, "%d log lines dropped\n", lines) }
	}
	go s.run() // Close waits for it, unless it hangs in a write
	return s
}

// ReportDropped replaces Config.Dropped.
func (s *Sink) ReportDropped(report func(lines int) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = report
}

// Dropped returns how many lines have been dropped so far.
func (s *Sink) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Write queues p or drops it. It always returns len(p), nil.
func (s *Sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.bytes > 0 && s.bytes+len(p) > s.buffer {
		s.dropped++
		s.total++
		return len(p), nil
	}
	s.reportDropped()
	s.add(line{text: bytes.Clone(p), count: 1})
	return len(p), nil
}

// Close ends the writer. It waits until all lines are written, at most for
// patience. Later writes are dropped.
func (s *Sink) Close(patience time.Duration) {
	s.mu.Lock()
	if !s.closed {
		s.reportDropped()
		s.closed = true
		s.wake()
	}
	s.mu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.written:
	case <-timer.C:
	}
}

// reportDropped queues the line about dropped lines. The caller holds mu.
func (s *Sink) reportDropped() {
	if s.dropped > 0 {
		s.add(line{text: s.report(s.dropped), count: s.dropped, report: true})
		s.dropped = 0
	}
}

// add queues a line. The caller holds mu.
func (s *Sink) add(l line) {
	s.queue = append(s.queue, l)
	s.bytes += len(l.text)
	s.wake()
}

// wake wakes the writer. The caller holds mu.
func (s *Sink) wake() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

// run writes until the sink is closed and its queue is empty.
func (s *Sink) run() {
	defer close(s.written)
	torn := false // only a part of the last line was written
	for {
		lines, over := s.next()
		if over {
			return
		}
		if len(lines) == 0 {
			<-s.look
			continue
		}
		var chunk []byte
		if torn {
			chunk = append(chunk, '\n')
		}
		for _, l := range lines {
			chunk = append(chunk, l.text...)
		}
		n, err := s.out.Write(chunk)
		n = min(max(n, 0), len(chunk))
		if n > 0 {
			torn = chunk[n-1] != '\n'
		}
		s.wrote(lines, len(chunk)-n, err)
	}
}

// next removes up to atomicWrite bytes of whole lines from the queue. It returns
// over if the queue is empty and the sink is closed.
func (s *Sink) next() (lines []line, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n].text) <= atomicWrite) {
		size += len(s.queue[n].text)
		n++
	}
	lines, s.queue = s.queue[:n:n], s.queue[n:]
	return lines, n == 0 && s.closed
}

// wrote records that lines were written, but for their last unwritten bytes. It
// counts the lines that were lost.
func (s *Sink) wrote(lines []line, unwritten int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range slices.Backward(lines) {
		s.bytes -= len(l.text)
		if err != nil && unwritten > 0 {
			s.dropped += l.count
			if !l.report { // the lines that it reports have been counted
				s.total++
			}
			unwritten -= len(l.text)
		}
	}
	if err == nil && len(s.queue) == 0 && !s.closed {
		s.reportDropped() // there may be no further Write to do it
	}
}
