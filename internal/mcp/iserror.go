package mcp

import "bytes"

// IsErrorResult reports whether the result of a tool call, which is valid JSON, has a
// member isError that is true: the tool ran and reports a failure. A key that is written
// with escapes is not recognised.
//
// It is on the path of every call. Servers write the member last, or not at all. So it
// looks at the end first, and reads the members only if their key is somewhere else.
func IsErrorResult(result []byte) bool {
	if value, found := lastIsError(result); found {
		return value
	}
	// A capital letter is rarer than a quote, and so found faster to be absent.
	if !bytes.Contains(result, []byte(`Error"`)) || !bytes.Contains(result, []byte(isErrorKey)) {
		return false
	}
	is := false
	_ = Members(result, func(key, value []byte) bool { // no object: no members
		if string(key) == "isError" {
			is = string(value) == "true"
		}
		return true
	})
	return is
}

const isErrorKey = `"isError"`

// lastIsError returns the value of isError if that is the last member of the result.
func lastIsError(result []byte) (value, found bool) {
	b, ok := bytes.CutSuffix(trimEnd(result), []byte{'}'})
	if !ok {
		return false, false
	}
	b = trimEnd(b)
	if rest, ok := bytes.CutSuffix(b, []byte("true")); ok {
		b, value = rest, true
	} else if b, ok = bytes.CutSuffix(b, []byte("false")); !ok {
		return false, false
	}
	// A word that is no string, and a colon, stand behind the end of a key.
	if b, ok = bytes.CutSuffix(trimEnd(b), []byte{':'}); !ok {
		return false, false
	}
	if b, ok = bytes.CutSuffix(trimEnd(b), []byte(isErrorKey)); !ok || len(b) == 0 || b[len(b)-1] == '\\' {
		return false, false // or the end of a longer key, which has an escaped quote
	}
	return value, true
}

// trimEnd returns b without the spaces at its end.
func trimEnd(b []byte) []byte {
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\n' || b[len(b)-1] == '\r' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
