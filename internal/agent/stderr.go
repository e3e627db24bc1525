package agent

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mask"
)

// Bounds of a replica's stderr.
const (
	maxLines     = 500
	maxLine      = 8 << 10
	maxLineBytes = 256 << 10

	// logBurst lines of a replica's stderr are logged at once, and logRate a second
	// after that, so that a child that floods stderr does not fill our disk.
	logBurst = 100
	logRate  = 20
)

// stderrRing keeps the last lines of a replica's stderr. All methods may be called at
// any time. A nil ring is empty and closed.
type stderrRing struct {
	mu      sync.Mutex
	lines   []fleet.LogLine
	bytes   int
	total   uint64 // lines ever added; the last one kept has this number
	begins  uint64 // how many of them are of a process before the present one
	closed  bool
	readers map[chan<- struct{}]struct{} // notified of new lines
}

func newStderrRing() *stderrRing {
	return &stderrRing{readers: map[chan<- struct{}]struct{}{}}
}

func (r *stderrRing) add(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fleet.LogLine{Time: time.Now(), Text: text})
	r.bytes += len(text)
	r.total++
	r.keep(maxLines)
	for c := range r.readers {
		notify(c)
	}
}

// keep drops the oldest lines beyond the bounds. It needs the lock.
func (r *stderrRing) keep(n int) {
	drop := max(0, len(r.lines)-n)
	for _, l := range r.lines[:drop] {
		r.bytes -= len(l.Text)
	}
	for r.bytes > maxLineBytes {
		r.bytes -= len(r.lines[drop].Text)
		drop++
	}
	clear(r.lines[:drop]) // append moves the rest to a new array in time
	r.lines = r.lines[drop:]
}

func (r *stderrRing) size() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}

// trim keeps the last n lines and frees the memory of the others.
func (r *stderrRing) trim(n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(n)
	r.lines = slices.Clone(r.lines)
}

// begin records that the next lines are of another process of the replica.
func (r *stderrRing) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begins = r.total
}

// close records that no line will follow.
func (r *stderrRing) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for c := range r.readers {
		notify(c)
	}
}

// last returns up to n lines with up to maxBytes together. With stderr set, it returns
// only those that the present process wrote to stderr.
func (r *stderrRing) last(n, maxBytes int, stderr bool) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var texts []string
	for i, l := range slices.Backward(r.lines) {
		if stderr && r.total-uint64(len(r.lines)-i) < r.begins {
			break
		}
		if stderr && strings.HasPrefix(l.Text, fleet.StdoutMark) {
			continue
		}
		maxBytes -= len(l.Text)
		if len(texts) == n || maxBytes < 0 && len(texts) > 0 {
			break
		}
		texts = append(texts, l.Text)
	}
	slices.Reverse(texts)
	return texts
}

// after returns up to n lines after the first seen ones, how many the reader has then
// seen, and whether more can come.
func (r *stderrRing) after(seen uint64, n int) (lines []fleet.LogLine, now uint64, more bool) {
	if r == nil {
		return nil, seen, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.total - uint64(len(r.lines))
	seen = max(seen, oldest)
	lines = r.lines[seen-oldest:]
	lines = slices.Clone(lines[:min(n, len(lines))])
	now = seen + uint64(len(lines))
	return lines, now, now < r.total || !r.closed
}

// tail returns the seen count of a reader of the last n lines. n 0 means all.
func (r *stderrRing) tail(n int) uint64 {
	if r == nil || n <= 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total - min(uint64(n), r.total)
}

// read has c notified of new lines until done is called.
func (r *stderrRing) read(c chan<- struct{}) (done func()) {
	if r == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers[c] = struct{}{}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.readers, c)
	}
}

// pumpStderr copies lines from a replica's stderr to its ring and the log until the end
// of the pipe. It masks secrets.
func pumpStderr(src io.Reader, ring *stderrRing, masker *mask.Masker, log *slog.Logger) {
	in := bufio.NewReaderSize(src, maxLine)
	limit := newLogLimit()
	defer limit.flush(log)
	for {
		line, err := in.ReadSlice('\n')
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			text := strings.ToValidUTF8(string(line), "\uFFFD")
			if errors.Is(err, bufio.ErrBufferFull) {
				text = masker.Partial(text)
			} else {
				text = masker.Text(text)
			}
			ring.add(text)
			limit.log(log, text)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n') // the rest of a line that is too long
		}
		if err != nil {
			return
		}
	}
}

// logLimit is a token bucket for one replica's lines in our log.
type logLimit struct {
	tokens  float64
	at      time.Time
	skipped int
}

func newLogLimit() *logLimit { return &logLimit{tokens: logBurst, at: time.Now()} }

func (l *logLimit) log(log *slog.Logger, text string) {
	now := time.Now()
	l.tokens = min(logBurst, l.tokens+logRate*now.Sub(l.at).Seconds())
	l.at = now
	if l.tokens < 1 {
		l.skipped++
		return
	}
	l.tokens--
	l.flush(log)
	log.Info("stderr", "line", text)
}

func (l *logLimit) flush(log *slog.Logger) {
	if l.skipped > 0 {
		log.Warn("stderr lines not logged: too many", "lines", l.skipped)
		l.skipped = 0
	}
}
