package mcp

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// The types of results that the modern era knows. Extensions add others.
const (
	ResultComplete      = "complete"
	ResultInputRequired = "input_required"
)

// Scopes of cacheable results.
const (
	ScopePublic  = "public"
	ScopePrivate = "private"
)

// ResultType returns the type of a result, which is valid JSON. A result without one is complete. A key
// that is written with escapes is not recognised.
//
// It is on the path of every call. Nearly every result either has no such key in it or has it as its
// first one, and those are not walked.
func ResultType(result []byte) string {
	if !mayHave(result, "resultType") {
		return ResultComplete
	}
	const key = `"resultType"`
	at := bytes.Index(result, []byte(key))
	first := skipSpace(result, 0)
	if at < 0 || first == len(result) || result[first] != '{' {
		return ResultComplete
	}
	if at == skipSpace(result, first+1) && !mayHave(result[at+len(key):], "resultType") {
		colon := skipSpace(result, at+len(key))
		start, end, why := skipValue(result, colon+1, 1)
		if why == "" {
			return resultType(result[start:end])
		}
	}
	var last []byte
	_ = Members(result, func(key, value []byte) bool {
		if string(key) == "resultType" {
			last = value
		}
		return true
	})
	return resultType(last)
}

func resultType(raw []byte) string {
	switch string(raw) {
	case "", "null", `"complete"`:
		return ResultComplete
	case `"input_required"`:
		return ResultInputRequired
	}
	return text(raw)
}

// mayHave reports whether a text may have a key of that name without escapes. It looks for the end of
// the name from its first rare letter on, because a search that begins with a letter or a quote stops
// often in usual text.
func mayHave(raw []byte, name string) bool {
	rare := max(strings.IndexFunc(name, func(r rune) bool { return r == '_' || r >= 'A' && r <= 'Z' }), 0)
	var end [32]byte
	return bytes.Contains(raw, append(append(end[:0], name[rare:]...), '"'))
}

// CacheHint says how long a result may be cached, and whether others may share it.
type CacheHint struct {
	TTL   int64 // ms
	Scope string
}

// Completion is what a result of a legacy server lacks for a modern client.
type Completion struct {
	ServerInfo []byte     // raw; nil: not told
	Hint       *CacheHint // nil: not cacheable
}

// ResultToModern returns the result of a legacy server as a modern client expects it. It adds what the
// result lacks: resultType, serverInfo in _meta, and the cache hint. A _meta that is not an object is
// left alone.
func ResultToModern(result []byte, c Completion) ([]byte, error) {
	lead, rest, err := SplitResultToModern(result, c)
	if err != nil || lead == nil {
		return rest, err
	}
	return append(append(make([]byte, 0, len(lead)+len(rest)), lead...), rest...), nil
}

// SplitResultToModern returns what ResultToModern returns, in two parts. Nearly always lead is short and
// rest is a part of the result, so that the result is not copied.
func SplitResultToModern(result []byte, c Completion) (lead, rest []byte, err error) {
	var space [4]Change
	changes := append(space[:0], SetDefault("resultType", []byte(`"`+ResultComplete+`"`)))
	if c.Hint != nil {
		changes = append(changes,
			SetDefault("ttlMs", strconv.AppendInt(nil, c.Hint.TTL, 10)),
			SetDefault("cacheScope", AppendString(nil, c.Hint.Scope)))
	}
	if len(c.ServerInfo) > 0 {
		changes = append(changes, InMeta(SetDefault(MetaServerInfo, c.ServerInfo)))
	}
	if lead, rest, ok := allNew(result, changes); ok {
		return lead, rest, nil
	}
	rest, err = Edit(result, changes...)
	if isTypeError(err) && len(c.ServerInfo) > 0 {
		rest, err = Edit(result, changes[:len(changes)-1]...)
	}
	return nil, rest, err
}

// allNew makes changes to an object that has none of the members. So it need not walk it, and returns
// the end of raw as it is.
func allNew(raw []byte, changes []Change) (lead, rest []byte, ok bool) {
	first := skipSpace(raw, 0)
	if first == len(raw) || raw[first] != '{' {
		return nil, nil, false
	}
	size := first + len("{},")
	for i := range changes {
		if mayHave(raw, changes[i].name) {
			return nil, nil, false
		}
		size += sizeOf(&changes[i])
	}
	lead = append(make([]byte, 0, size), raw[:first]...)
	lead = appendObject(lead, changes)
	lead = lead[:len(lead)-1] // without its end
	if raw[skipSpace(raw, first+1)] != '}' {
		lead = append(lead, ',')
	}
	return lead, raw[first+1:], true
}

func isTypeError(err error) bool {
	var wrong *TypeError
	return errors.As(err, &wrong)
}
