package mcp

// AddMeta is like AddProgressToken, and gives the new _meta the members of meta too, which is an object
// that is not empty.
func AddMeta(params, meta, token []byte) (Spliced, bool) {
	i := skipSpace(params, 0)
	if i == len(params) || params[i] != '{' || skipSpace(params, i+1) == len(params) {
		return Spliced{}, false
	}
	member := append([]byte(`"_meta":`), meta[:len(meta)-1]...)
	member = append(append(append(member, `,"progressToken":`...), token...), '}')
	return spliceFirst(params, i, member), true
}
