package mcp

// Finder finds a message's top-level id in a line that comes in pieces and is not kept, because it is
// too long or not valid JSON. It keeps a bounded number of bytes, however long the line is. It is
// lenient inside values, where it only counts brackets and strings, and strict about the outermost
// object. At the first fault there it stops, so that other text is not taken for an id. Of duplicate
// ids the last counts.
//
// The zero value is ready for one line.
type Finder struct {
	state   finderState
	depth   int  // open containers; the outermost object is 1
	text    bool // inside a string
	escape  bool // behind a backslash
	method  bool
	reply   bool
	current member
	over    bool // the capture is too long
	capture []byte
	id      []byte
}

type finderState uint8

const (
	finderStart   finderState = iota
	finderFirst               // a key or the end
	finderKey                 // a key
	finderColon               // a colon
	finderValue               // a value's first byte
	finderScalar              // a number or word goes on
	finderNested              // inside a string or container
	finderBetween             // a comma or the end
	finderDone                // the object ended, or has a fault
)

type member uint8

const (
	memberOther member = iota
	memberID
)

// maxCapture is the longest key or id that is kept. Every byte of "jsonrpc" may be escaped. Our own ids
// are short integers, but those of a server's requests may be longer.
const maxCapture = 256

// ID returns the raw id found so far, nil if there is none.
func (f *Finder) ID() []byte { return f.id }

// Method reports whether the line has a method so far, which makes it a request or a notification.
func (f *Finder) Method() bool { return f.method }

// Reply reports whether the line has a result or an error so far.
func (f *Finder) Reply() bool { return f.reply }

// Feed takes the next piece of the line.
func (f *Finder) Feed(b []byte) {
	for i := 0; i < len(b) && f.state != finderDone; {
		if f.text {
			i = f.inString(b, i)
			continue
		}
		f.outside(b[i])
		i++
	}
}

func (f *Finder) inString(b []byte, i int) int {
	if f.escape {
		f.escape = false
		f.keep(b[i : i+1])
		return i + 1
	}
	end := skipPlain(b, i)
	f.keep(b[i:end])
	if end == len(b) {
		return end
	}
	f.keep(b[end : end+1])
	switch b[end] {
	case '\\':
		f.escape = true
	case '"':
		f.text = false
		if f.depth == 1 {
			f.stringEnds()
		}
	}
	return end + 1
}

// keep captures the beginning of a text in the outermost object itself, because it may be a key or the
// id.
func (f *Finder) keep(b []byte) {
	if f.depth != 1 {
		return
	}
	if f.over = f.over || len(f.capture)+len(b) > maxCapture; !f.over {
		f.capture = append(f.capture, b...)
	}
}

func (f *Finder) stringEnds() {
	if f.state == finderNested {
		f.valueEnds()
		f.state = finderBetween
		return
	}
	f.state = finderColon
	f.current = memberOther
	if f.over || Valid(f.capture) != nil {
		return
	}
	switch string(unquote(f.capture)) {
	case "id":
		f.current = memberID
	case "method":
		f.method = true
	case "result", "error":
		f.reply = true
	}
}

func (f *Finder) valueEnds() {
	if f.current != memberID {
		return
	}
	f.id = nil
	if !f.over && Valid(f.capture) == nil {
		f.id = append([]byte(nil), f.capture...)
	}
}

func (f *Finder) begin() {
	f.capture, f.over = f.capture[:0], false
}

func (f *Finder) outside(c byte) {
	space := c == ' ' || c == '\t' || c == '\r' || c == '\n'
	switch f.state {
	case finderStart:
		if c == '{' {
			f.state, f.depth = finderFirst, 1
		} else if !space {
			f.state = finderDone
		}
	case finderFirst, finderKey:
		if c == '"' {
			f.begin()
			f.text = true
			f.keep([]byte{c})
		} else if !space {
			f.state = finderDone
		}
	case finderColon:
		if c == ':' {
			f.state = finderValue
		} else if !space {
			f.state = finderDone
		}
	case finderValue:
		if !space {
			f.valueBegins(c)
		}
	case finderScalar:
		if space || c == ',' || c == '}' {
			f.valueEnds()
			f.state = finderBetween
			f.between(c, space)
		} else {
			f.keep([]byte{c})
		}
	case finderNested:
		f.nested(c)
	case finderBetween:
		f.between(c, space)
	case finderDone:
	}
}

func (f *Finder) valueBegins(c byte) {
	f.begin()
	switch c {
	case '"':
		f.state, f.text = finderNested, true
		f.keep([]byte{c})
	case '{', '[':
		f.state = finderNested
		f.depth++
		if f.current == memberID {
			f.id = nil // the last id is no id
		}
	case ',', ':', '}', ']':
		f.state = finderDone
	default:
		f.state = finderScalar
		f.keep([]byte{c})
	}
}

func (f *Finder) nested(c byte) {
	switch c {
	case '"':
		f.text = true
	case '{', '[':
		f.depth++
	case '}', ']':
		if f.depth--; f.depth == 1 {
			f.state = finderBetween
		}
	}
}

func (f *Finder) between(c byte, space bool) {
	switch {
	case c == ',':
		f.state = finderKey
	case !space:
		f.state = finderDone
	}
}
