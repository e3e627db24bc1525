package mcp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deeply objects and arrays may nest. It is encoding/json's own limit, so the two
// agree on every input.
const MaxDepth = 10_000

// SyntaxError is the first fault of a text that is not valid JSON in valid UTF-8.
type SyntaxError struct {
	Offset int // of the first wrong byte, or the length of a text that ends too soon
	Line   int // 1 for the first
	Column int // 1 for the first; counts characters, not bytes
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("invalid JSON at line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

func syntaxError(raw []byte, offset int, reason string) *SyntaxError {
	line, col := locate(raw, offset)
	if reason == whyUnexpected && offset < len(raw) {
		r, size := utf8.DecodeRune(raw[offset:])
		if r == utf8.RuneError && size == 1 {
			reason = fmt.Sprintf("unexpected byte 0x%02x", raw[offset])
		} else {
			reason = fmt.Sprintf("unexpected %q", r)
		}
	}
	return &SyntaxError{Offset: offset, Line: line, Column: col, Reason: reason}
}

// locate turns a byte offset into a line and a column for people: both start at 1, and columns
// count characters.
func locate(raw []byte, offset int) (line, col int) {
	before := raw[:min(max(offset, 0), len(raw))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte{'\n'}) + 1, utf8.RuneCount(before[start:]) + 1
}

// The skip functions return one of these reasons, or "", and an offset. So a valid text costs no
// allocation.
const (
	whyUnexpected = "unexpected character"
	whyEnd        = "unexpected end"
	whyControl    = "control character in a string"
	whyUTF8       = "invalid UTF-8"
	whyEscape     = "invalid escape in a string"
	whyNumber     = "invalid number"
	whyDepth      = "nested too deeply"
	whyTrailing   = "text after the value"
	whyKey        = "a key must be a string"
	whyColon      = "a ':' must follow a key"
)

// skipSpace returns the index of the first byte from i on that is no space. Most calls find one at
// once, so that part is small enough to be inlined.
func skipSpace(b []byte, i int) int {
	if i < len(b) && b[i] > ' ' {
		return i
	}
	return skipSpaces(b, i)
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special sets the high bit of the lowest byte in x that is special inside a string: a quote, a
// backslash, a control character or a part of a multi-byte character. Bytes above that one may have
// theirs set too, and other bits mean nothing. Flipping the bit 0x02 swaps the quote (0x22) with the
// space (0x20) and keeps control characters below both, so one subtraction finds either.
func special(x uint64) uint64 {
	return ((x ^ lowBits*0x02) - lowBits*0x21) | ((x ^ lowBits*'\\') - lowBits) | x
}

// skipPlain returns the index of the first special byte from i on. It looks at eight bytes at once,
// and at 32 when the first eight hold none: most strings are short, but a large reply is nearly all
// strings.
func skipPlain(b []byte, i int) int {
	if i+8 <= len(b) {
		if hit := special(binary.LittleEndian.Uint64(b[i:])) & highBits; hit != 0 {
			return i + bits.TrailingZeros64(hit)>>3
		}
		i += 8
	}
	for ; i+32 <= len(b); i += 32 {
		s := b[i : i+32 : i+32]
		hit := special(binary.LittleEndian.Uint64(s)) | special(binary.LittleEndian.Uint64(s[8:])) |
			special(binary.LittleEndian.Uint64(s[16:])) | special(binary.LittleEndian.Uint64(s[24:]))
		if hit&highBits != 0 {
			break
		}
	}
	for ; i+8 <= len(b); i += 8 {
		if hit := special(binary.LittleEndian.Uint64(b[i:])) & highBits; hit != 0 {
			return i + bits.TrailingZeros64(hit)>>3
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] < 0x80 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// skipString starts after the opening quote and ends after the closing one.
func skipString(b []byte, i int) (int, string) {
	for {
		i = skipPlain(b, i)
		if i == len(b) {
			return i, whyEnd
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, ""
		case c == '\\':
			end, why := skipEscape(b, i)
			if why != "" {
				return end, why
			}
			i = end
		case c < 0x20:
			return i, whyControl
		default:
			for i < len(b) && b[i] >= 0x80 {
				r, size := utf8.DecodeRune(b[i:])
				if r == utf8.RuneError && size == 1 {
					return i, whyUTF8
				}
				i += size
			}
		}
	}
}

func skipEscape(b []byte, i int) (int, string) {
	if i+1 == len(b) {
		return i + 1, whyEnd
	}
	switch b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, ""
	case 'u':
		for k := i + 2; k < i+6; k++ {
			if k == len(b) {
				return k, whyEnd
			}
			if c := b[k] | 0x20; (b[k] < '0' || b[k] > '9') && (c < 'a' || c > 'f') {
				return k, whyEscape
			}
		}
		return i + 6, ""
	}
	return i + 1, whyEscape
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

func skipNumber(b []byte, i int) (int, string) {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if end := skipDigits(b, i); end > i {
		i = end
	} else {
		return numberEnds(b, i)
	}
	if i < len(b) && b[i] == '.' {
		end := skipDigits(b, i+1)
		if end == i+1 {
			return numberEnds(b, end)
		}
		i = end
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := skipDigits(b, i)
		if end == i {
			return numberEnds(b, end)
		}
		i = end
	}
	return i, ""
}

func numberEnds(b []byte, i int) (int, string) {
	if i == len(b) {
		return i, whyEnd
	}
	return i, whyNumber
}

func skipWord(b []byte, i int, word string) (int, string) {
	for k := range len(word) {
		if i+k == len(b) {
			return i + k, whyEnd
		}
		if b[i+k] != word[k] {
			return i + k, whyUnexpected
		}
	}
	return i + len(word), ""
}

// skipKey skips a key and the colon after it. keyStart and keyEnd enclose the key with its quotes.
func skipKey(b []byte, i int) (keyStart, keyEnd, next int, why string) {
	i = skipSpace(b, i)
	if i == len(b) {
		return i, i, i, whyEnd
	}
	if b[i] != '"' {
		return i, i, i, whyKey
	}
	end, why := skipString(b, i+1)
	if why != "" {
		return i, i, end, why
	}
	next = skipSpace(b, end)
	if next == len(b) {
		return i, end, next, whyEnd
	}
	if b[next] != ':' {
		return i, end, next, whyColon
	}
	return i, end, next + 1, ""
}

// nest records for each open container whether it is an object. The innermost 64 are in a word and the
// others on the heap. So a hostile text cannot overflow a stack, and a usual one stays fast.
type nest struct {
	depth int
	top   uint64
	spill []uint64
}

func (n *nest) push(object bool) {
	if n.depth > 0 && n.depth%64 == 0 {
		n.spill = append(n.spill, n.top)
	}
	n.top <<= 1
	if object {
		n.top |= 1
	}
	n.depth++
}

func (n *nest) pop() {
	n.depth--
	n.top >>= 1
	if n.depth > 0 && n.depth%64 == 0 {
		last := len(n.spill) - 1
		n.top, n.spill = n.spill[last], n.spill[:last]
	}
}

func (n *nest) object() bool { return n.top&1 == 1 }

// skipValue skips a value and the space before it, and returns the offsets of its first byte and after
// its last. outer is how many containers are open around it. On a fault, end is the fault's offset.
func skipValue(b []byte, i, outer int) (start, end int, why string) {
	var open nest
	i = skipSpace(b, i)
	start = i
	for {
		i = skipSpace(b, i)
		if i == len(b) {
			return start, i, whyEnd
		}
		opened := false
		switch c := b[i]; c {
		case '"':
			i, why = skipString(b, i+1)
		case '{', '[':
			if outer+open.depth == MaxDepth {
				return start, i, whyDepth
			}
			open.push(c == '{')
			i, opened = i+1, true
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			i, why = skipNumber(b, i)
		case 't':
			i, why = skipWord(b, i, "true")
		case 'f':
			i, why = skipWord(b, i, "false")
		case 'n':
			i, why = skipWord(b, i, "null")
		default:
			why = whyUnexpected
		}
		if why != "" {
			return start, i, why
		}
		if i, why = skipBetween(b, i, &open, opened); why != "" {
			return start, i, why
		}
		if open.depth == 0 {
			return start, i, ""
		}
	}
}

// skipBetween skips the text between two values: closing brackets, and a comma or a key. opened means
// that an opening bracket comes right before it.
func skipBetween(b []byte, i int, open *nest, opened bool) (int, string) {
	for open.depth > 0 {
		i = skipSpace(b, i)
		if i == len(b) {
			return i, whyEnd
		}
		object := open.object()
		c := b[i]
		if (object && c == '}') || (!object && c == ']') {
			open.pop()
			i, opened = i+1, false
			continue
		}
		if !opened {
			if c != ',' {
				return i, whyUnexpected
			}
			i++
		}
		if !object {
			return i, ""
		}
		_, _, next, why := skipKey(b, i)
		return next, why
	}
	return i, ""
}
