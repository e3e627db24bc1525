package mcp

import (
	"bytes"
	"fmt"
)

// noParams reports whether params are absent or null, which means that they have no members.
func noParams(params []byte) bool {
	return skipSpace(params, 0) == len(params) || IsNull(params) && Valid(params) == nil
}

// paramFields is Fields for params, which may be absent.
func paramFields(params []byte, names ...string) ([][]byte, error) {
	if noParams(params) {
		return make([][]byte, len(names)), nil
	}
	return Fields(params, names...)
}

// CallParams returns the params of tools/call. args is raw JSON and inserted as it is. If it is empty
// the member is left out.
func CallParams(name string, args []byte) []byte {
	var short [128]byte
	head := AppendString(append(short[:0], `{"name":`...), name)
	if len(args) > 0 {
		head = append(head, `,"arguments":`...)
	}
	return bytes.Join([][]byte{head, args, []byte("}")}, nil) // unlike make, it does not clear the memory first
}

// Spliced is a text with an inserted part. Before and After are spans of the original text, so that a
// large one is not copied.
type Spliced struct {
	Before, Insert, After []byte
}

// AppendTo appends the whole.
func (s Spliced) AppendTo(dst []byte) []byte {
	return append(append(append(dst, s.Before...), s.Insert...), s.After...)
}

// WithProgressToken sets _meta.progressToken in params to token, which is raw JSON, and leaves every
// other byte as it is. original is the raw token that it replaces, nil if there is none. Progress that
// is passed on must carry it again. Empty params become an object. Params or a _meta that are not
// objects are a *TypeError.
func WithProgressToken(params, token []byte) (s Spliced, original []byte, err error) {
	if skipSpace(params, 0) == len(params) {
		return Spliced{Insert: fmt.Appendf(nil, `{"_meta":{"progressToken":%s}}`, token)}, nil, nil
	}
	start, end, rest, err := field(params, 0, "_meta")
	if err == nil && skipSpace(params, rest) < len(params) {
		err = syntaxError(params, skipSpace(params, rest), whyTrailing)
	}
	if err != nil {
		return Spliced{}, nil, err
	}
	if end == 0 {
		return spliceFirst(params, 0, fmt.Appendf(nil, `"_meta":{"progressToken":%s}`, token)), nil, nil
	}
	meta := start
	start, end, _, err = field(params, meta, "progressToken")
	if err != nil {
		return Spliced{}, nil, fmt.Errorf("_meta: %w", err)
	}
	if end == 0 {
		return spliceFirst(params, meta, fmt.Appendf(nil, `"progressToken":%s`, token)), nil, nil
	}
	return Spliced{Before: params[:start], Insert: token, After: params[end:]}, params[start:end:end], nil
}

// AddProgressToken is WithProgressToken for params that are known to be an object without a member
// _meta. It reads only their beginning, and reports false if they are not an object.
func AddProgressToken(params, token []byte) (Spliced, bool) {
	i := skipSpace(params, 0)
	if i == len(params) || params[i] != '{' || skipSpace(params, i+1) == len(params) {
		return Spliced{}, false
	}
	return spliceFirst(params, i, fmt.Appendf(nil, `"_meta":{"progressToken":%s}`, token)), true
}

// SplitProgressToken splits the params of notifications/progress around the token, which is Insert, so
// that it can be replaced by the caller's own. Insert is nil if there is no token.
func SplitProgressToken(params []byte) (Spliced, error) {
	if skipSpace(params, 0) == len(params) {
		return Spliced{Before: params}, nil
	}
	start, end, rest, err := field(params, 0, "progressToken")
	if err == nil && skipSpace(params, rest) < len(params) {
		err = syntaxError(params, skipSpace(params, rest), whyTrailing)
	}
	if err != nil || end == 0 {
		return Spliced{Before: params}, err
	}
	return Spliced{Before: params[:start], Insert: params[start:end:end], After: params[end:]}, nil
}

// field finds the last member with that name in the object that begins at or after at, and ends at
// rest. It checks the object in the same pass. end is 0 if there is no such member.
func field(b []byte, at int, name string) (start, end, rest int, err error) {
	if at = skipSpace(b, at); b[at] != '{' {
		_, wrong, why := skipValue(b, at, 0)
		if why != "" {
			return 0, 0, 0, syntaxError(b, wrong, why)
		}
		return 0, 0, 0, &TypeError{Want: "object", Got: TypeOf(b[at:])}
	}
	_, rest, why := members(b, at, func(key []byte, _, from, to int) bool {
		if string(key) == name {
			start, end = from, to
		}
		return true
	})
	if why != "" {
		return 0, 0, 0, syntaxError(b, rest, why)
	}
	return start, end, rest, nil
}

// spliceFirst inserts a member as the first of the object that begins at or after at.
func spliceFirst(b []byte, at int, member []byte) Spliced {
	at = skipSpace(b, at) + 1
	if b[skipSpace(b, at)] != '}' {
		member = append(member, ',')
	}
	return Spliced{Before: b[:at], Insert: member, After: b[at:]}
}
