package mcp

// SetPath returns the object raw with the member at path set to value, which is raw JSON. Every other byte
// stays as it is. Objects that are missing on the way are added, and new members come last. Of duplicate
// members the last is set. If raw, or something on the way, is not an object, the error is a *TypeError.
// raw is not written to.
func SetPath(raw, value []byte, path ...string) ([]byte, error) {
	if TypeOf(raw) != "object" {
		return nil, &TypeError{Want: "object", Got: TypeOf(raw)}
	}
	at := 0
	for i, key := range path {
		start, end, rest, err := field(raw, at, key)
		switch {
		case err != nil:
			return nil, err
		case end == 0:
			return insertLast(raw, at, rest, path[i:], value), nil
		case i == len(path)-1:
			return splice(raw, start, end, value), nil
		}
		at = start
	}
	return raw, nil
}

// insertLast adds a member as the last of the object that begins at or after at and ends at rest. More
// than one name in path makes objects around it.
func insertLast(raw []byte, at, rest int, path []string, value []byte) []byte {
	var b []byte
	if at = skipSpace(raw, at) + 1; raw[skipSpace(raw, at)] != '}' {
		b = append(b, ',')
	}
	for i, key := range path {
		if i > 0 {
			b = append(b, '{')
		}
		b = append(AppendString(b, key), ':')
	}
	b = append(b, value...)
	for range path[1:] {
		b = append(b, '}')
	}
	return splice(raw, rest-1, rest-1, b)
}

func splice(raw []byte, start, end int, value []byte) []byte {
	out := make([]byte, 0, len(raw)-(end-start)+len(value))
	return append(append(append(out, raw[:start]...), value...), raw[end:]...)
}
