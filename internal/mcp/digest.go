package mcp

import (
	"bytes"
	"encoding/json"
	"slices"
)

// AppendIdentity appends what makes a request the same as another one: its method and its params
// without the answers and the state of a retry and without _meta. Spaces and the order of members at
// the top do not count, because a client may write them otherwise in the retry. A state is bound to the
// digest of this.
func AppendIdentity(dst []byte, method string, params []byte) ([]byte, error) {
	dst = append(append(dst, method...), 0)
	if noParams(params) {
		return append(dst, '{', '}'), nil
	}
	type member struct{ key, value []byte }
	var all []member
	err := Members(params, func(key, value []byte) bool {
		switch string(key) {
		case "inputResponses", "requestState", "_meta":
		default:
			all = append(all, member{key, value})
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	all = lastOfEach(all, func(m member) string { return string(m.key) })
	slices.SortFunc(all, func(a, b member) int { return bytes.Compare(a.key, b.key) })
	out := bytes.NewBuffer(append(dst, '{'))
	for i, m := range all {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(append(AppendString(nil, string(m.key)), ':'))
		if err := json.Compact(out, m.value); err != nil {
			return nil, err // cannot happen: the value was checked
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
