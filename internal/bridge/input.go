package bridge

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// tooLongLine is a line of the client that was not kept.
type tooLongLine struct {
	id      []byte // raw, of the request in the line; nil if there is none
	request bool
}

func (e *tooLongLine) Error() string { return errTooLong.Error() }

// lines reads the lines of the client.
type lines struct {
	r   *bufio.Reader
	max int
}

func newLines(r io.Reader) *lines {
	return &lines{r: bufio.NewReaderSize(r, 64<<10), max: maxMessage}
}

// next returns the next line without its end. Empty lines are skipped, and text
// before the end of the input counts as a line. A line that is too long is a
// *tooLongLine; after it the next one can be read.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lines) line() ([]byte, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		if len(line)+len(part) > l.max {
			return nil, l.skip(line, part, err)
		}
		if cap(line) < len(line)+len(part) {
			line = slices.Grow(line, max(len(part), len(line))) // doubles, so that a long line leaves little garbage
		}
		line = append(line, part...) // a copy: the reader reuses its buffer
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// skip skips the rest of a line that is too long, and looks for its id.
func (l *lines) skip(line, part []byte, err error) error {
	var f mcp.Finder
	f.Feed(line)
	f.Feed(part)
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = l.r.ReadSlice('\n')
		f.Feed(part)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return &tooLongLine{id: f.ID(), request: f.Method() && f.ID() != nil}
}
