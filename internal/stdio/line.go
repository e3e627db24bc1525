package stdio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// readSize is the size of one read, and the limit between small and large lines. It is the capacity of
// a pipe.
const readSize = 64 << 10

// wideBytes is the capacity of a pipe once a large line has come through it. A server without large
// lines keeps the usual pipes, because the capacity of all pipes of a user is bounded.
const wideBytes = 256 << 10

// maxUsual bounds how much room a large line gets before it is known how long it is.
const maxUsual = 4 << 20

// line is what lineReader found between two line ends.
type line struct {
	data []byte // without its end; small lines are valid until the next one is read
	// owned means that the receiver may keep data. hold is its share of the budget.
	owned bool
	hold  *hold
	// err is set if the line was discarded. found then has the parts that could be found.
	err   error
	found *mcp.Finder
	// cut means that the stream ended without a line end.
	cut bool
}

// lineReader cuts a stream into lines. Small lines stay in its buffer. A line that outgrows it gets a
// buffer of its own, which doubles, so that a long line costs linear time. The receiver of the line
// gets that buffer. A line that may not grow further is read to its end and discarded.
type lineReader struct {
	src     io.Reader
	maxLine int
	budget  *Budget

	buf        []byte
	start, end int // unread bytes of buf
	seen       int // bytes behind start known to hold no line end
	err        error
	bytes      atomic.Int64

	large    []byte // the line's beginning, once it is large
	reserved int
	usual    int   // room that the last large line took, its end included; no more than maxUsual
	lost     error // why the line is being discarded
	finder   *mcp.Finder
}

// next returns the next line. After the last one it returns the stream's error, io.EOF at its
// orderly end.
func (r *lineReader) next() (line, error) {
	if r.buf == nil {
		r.buf = make([]byte, readSize)
	}
	for {
		if i := bytes.IndexByte(r.buf[r.start+r.seen:r.end], '\n'); i >= 0 {
			at := r.start + r.seen + i
			part := r.buf[r.start:at]
			r.start, r.seen = at+1, 0
			return r.finish(part), nil
		}
		r.seen = r.end - r.start
		if r.err != nil {
			return r.last()
		}
		r.makeRoom()
		if r.large != nil {
			if l, ok := r.readLarge(); ok {
				return l, nil
			}
			continue
		}
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.bytes.Add(int64(n))
		r.err = err
	}
}

// readLarge reads more of a large line into its own buffer. Bytes after the line's end go to buf,
// which is empty and at least as large as one read.
func (r *lineReader) readLarge() (line, bool) {
	if len(r.large) == cap(r.large) {
		if r.lost = r.grow(len(r.large) + 1); r.lost != nil {
			r.discard()
			return line{}, false
		}
	}
	kept := len(r.large)
	n, err := r.src.Read(r.large[kept:min(kept+readSize, cap(r.large))])
	r.bytes.Add(int64(n))
	r.err = err
	r.large = r.large[:kept+n]
	i := bytes.IndexByte(r.large[kept:], '\n')
	if i < 0 {
		return line{}, false
	}
	r.start, r.seen, r.end = 0, 0, copy(r.buf, r.large[kept+i+1:])
	r.large = r.large[:kept+i]
	return r.finish(nil), true
}

// last returns the bytes after the last line end, once.
func (r *lineReader) last() (line, error) {
	part := r.buf[r.start:r.end]
	r.start, r.end, r.seen = 0, 0, 0
	if len(part) == 0 && r.large == nil && r.lost == nil {
		return line{}, r.err
	}
	l := r.finish(part)
	l.cut = true
	return l, nil
}

// makeRoom makes room to read into: it moves the beginning of a line to the front, or moves a full
// buffer to the large one.
func (r *lineReader) makeRoom() {
	switch {
	case r.start == r.end:
		r.start, r.end, r.seen = 0, 0, 0
	case r.start > 0 && len(r.buf)-r.end < len(r.buf)/2:
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.start == 0 && (r.end == len(r.buf) || r.end > 0 && (r.large != nil || r.lost != nil)) {
		r.spill(r.buf[:r.end])
		r.start, r.end, r.seen = 0, 0, 0
	}
}

// spill adds a part to a large line. If the line is being discarded, it only searches the part.
func (r *lineReader) spill(part []byte) {
	if r.lost == nil {
		if r.lost = r.grow(len(r.large) + len(part)); r.lost == nil {
			r.large = append(r.large, part...)
			return
		}
		r.discard()
	}
	r.finder.Feed(part)
}

// discard searches the kept part of a large line, and drops it.
func (r *lineReader) discard() {
	r.finder = new(mcp.Finder)
	r.finder.Feed(r.large)
	r.budget.release(r.reserved)
	r.large, r.reserved = nil, 0
}

// grow makes the room of a large line hold need bytes, or says why it does not.
func (r *lineReader) grow(need int) error {
	if need > r.maxLine+1 { // with its end
		return ErrReplyTooLarge
	}
	if need <= cap(r.large) {
		return nil
	}
	size := min(max(2*cap(r.large), need, 2*readSize), r.maxLine+1)
	if usual := min(r.usual, r.maxLine+1); r.large != nil && usual > size && r.budget.reserve(usual-r.reserved) {
		size = usual
	} else if !r.budget.reserve(size - r.reserved) {
		return ErrNoBuffer
	}
	if r.usual == 0 && r.large == nil {
		widen(r.src)
	}
	r.reserved = size
	grown := make([]byte, len(r.large), size)
	copy(grown, r.large)
	r.large = grown
	return nil
}

// finish returns the line made of the kept part and the last one.
func (r *lineReader) finish(part []byte) line {
	if r.large == nil && r.lost == nil {
		if len(part) <= r.maxLine {
			return line{data: part}
		}
	}
	r.spill(part)
	if r.lost == nil && len(r.large) > r.maxLine {
		r.lost = ErrReplyTooLarge
		r.discard()
	}
	r.usual = min(len(r.large)+1, maxUsual)
	l := line{data: r.large, owned: true, err: r.lost, found: r.finder}
	if r.lost == nil {
		l.hold = &hold{budget: r.budget, bytes: r.reserved}
	}
	r.large, r.reserved, r.lost, r.finder = nil, 0, nil, nil
	return l
}

// ended returns the error of a finished stream, or nil for an orderly end.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
