package bridge

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"time"
)

// event is one event of a stream, without events of other types than message.
type event struct {
	data []byte // valid until the next call of next; empty in an event that only has an id
}

// decoder reads server-sent events as the WHATWG standard says ("Event stream
// interpretation"). A line ends with CRLF, LF or CR. An event that the end of the
// stream cuts off does not count, and neither does its id.
type decoder struct {
	r       *bufio.Reader
	data    *buffer
	skipLF  bool // the last line ended with CR
	started bool // the byte order mark was looked for

	lastID string        // of the last whole event
	retry  time.Duration // that the server asked for; negative if it did not
	heard  func(comment bool)
}

// newDecoder returns a decoder for one stream. lastID is the id that the stream
// continues from. heard is called with each line, and may be nil.
func newDecoder(r io.Reader, data *buffer, lastID string, heard func(comment bool)) *decoder {
	if heard == nil {
		heard = func(bool) {}
	}
	return &decoder{r: bufio.NewReaderSize(r, 16<<10), data: data, lastID: lastID, retry: -1, heard: heard}
}

// next returns the next event that has data, even if the data is empty. It skips
// events of other types than message.
func (d *decoder) next() (event, error) {
	d.data.reset()
	id, other, some := d.lastID, false, false
	var name lineStart
	for {
		whole, err := d.line(&name)
		if err != nil {
			return event{}, err
		}
		switch field := name.field(); {
		case whole && name.n == 0: // the end of an event
			d.lastID = id
			if some && !other {
				d.data.truncate(1) // the last line's end
				return event{d.data.b}, nil
			}
			d.data.reset()
			other, some = false, false
		case field == "":
			d.heard(true)
			continue
		case field == "data":
			some = true
			if err := d.data.add('\n'); err != nil {
				return event{}, err
			}
		case field == "id":
			if value := name.value(); !bytes.ContainsRune(value, 0) && !name.cut {
				id = string(value)
			}
		case field == "event":
			value := string(name.value())
			other = value != "" && value != "message"
		case field == "retry":
			if ms, err := strconv.ParseUint(string(name.value()), 10, 32); err == nil && digits(name.value()) {
				d.retry = time.Duration(ms) * time.Millisecond
			}
		}
		d.heard(false)
	}
}

func digits(b []byte) bool {
	return len(b) > 0 && len(bytes.Trim(b, "0123456789")) == 0
}

// lineStart is a line, or of a line of data only the name of its field.
type lineStart struct {
	b    [8 << 10]byte
	n    int
	cut  bool // the line is longer than b
	data bool // the value went to the data buffer
}

func (l *lineStart) field() string {
	name, _, _ := bytes.Cut(l.b[:l.n], []byte{':'})
	return string(name)
}

func (l *lineStart) value() []byte {
	_, value, _ := bytes.Cut(l.b[:l.n], []byte{':'})
	return bytes.TrimPrefix(value, []byte{' '})
}

var dataField = []byte("data:")

// mark is the byte order mark that a stream may begin with.
const mark = "\xef\xbb\xbf"

// line reads one line into l. The value of a data field goes to the data buffer
// instead, because it may be large. It returns false with io.EOF if the line has
// no end.
func (d *decoder) line(l *lineStart) (whole bool, err error) {
	l.n, l.cut, l.data = 0, false, false
	trimmed := false // the space after "data:"
	for {
		first, err := d.r.Peek(1)
		if err != nil {
			return false, err
		}
		if !d.started {
			d.started = true
			if first[0] == mark[0] {
				if first, _ = d.r.Peek(len(mark)); string(first) == mark {
					_, _ = d.r.Discard(len(mark))
					continue
				}
			}
		}
		chunk, _ := d.r.Peek(d.r.Buffered())
		if d.skipLF && chunk[0] == '\n' {
			d.skipLF = false
			_, _ = d.r.Discard(1)
			continue
		}
		d.skipLF = false
		end := bytes.IndexByte(chunk, '\n')
		if cr := bytes.IndexByte(chunk[:max(end, 0)], '\r'); end >= 0 && cr >= 0 {
			end = cr
		} else if end < 0 {
			end = bytes.IndexByte(chunk, '\r')
		}
		part := chunk
		if end >= 0 {
			part = chunk[:end]
		}
		if err := d.take(l, part, &trimmed); err != nil {
			return false, err
		}
		if end < 0 {
			_, _ = d.r.Discard(len(chunk))
			continue
		}
		d.skipLF = chunk[end] == '\r'
		_, _ = d.r.Discard(end + 1)
		return true, nil
	}
}

// take adds a part of a line.
func (d *decoder) take(l *lineStart, part []byte, trimmed *bool) error {
	for !l.data && len(part) > 0 {
		if l.n == len(l.b) {
			l.cut = true
			return nil
		}
		n := copy(l.b[l.n:], part)
		if l.n < len(dataField) { // look before copying more: it may be a data field
			n = copy(l.b[l.n:len(dataField)], part)
		}
		l.n += n
		part = part[n:]
		l.data = l.n == len(dataField) && bytes.Equal(l.b[:l.n], dataField)
	}
	if !l.data || len(part) == 0 {
		return nil
	}
	if !*trimmed {
		*trimmed = true
		part = bytes.TrimPrefix(part, []byte{' '})
	}
	return d.data.write(part)
}
