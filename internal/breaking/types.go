package breaking

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
)

// types is a set of JSON types.
type types uint8

const (
	typeNull types = 1 << iota
	typeBoolean
	typeObject
	typeArray
	typeString
	typeInteger
	typeFraction // a number that is not whole

	typeNumber = typeInteger | typeFraction
	typeAny    = typeNull | typeBoolean | typeObject | typeArray | typeString | typeNumber
)

// typeNames are the names of types, as schemas have them.
var typeNames = []struct {
	name string
	set  types
}{
	{"object", typeObject}, {"array", typeArray}, {"string", typeString}, {"number", typeNumber},
	{"integer", typeInteger}, {"boolean", typeBoolean}, {"null", typeNull},
}

// String lists the types in words: "string or null".
func (t types) String() string {
	if t == typeAny {
		return "anything"
	}
	var out []string
	for _, n := range typeNames {
		if t&n.set == n.set {
			out = append(out, n.name)
			t &^= n.set
		}
	}
	if t&typeFraction != 0 {
		out = append(out, "fractions")
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, " or ")
}

func readTypes(v any) types {
	switch v := v.(type) {
	case string:
		for _, n := range typeNames {
			if n.name == v {
				return n.set
			}
		}
	case []any:
		var set types
		for _, one := range v {
			set |= readTypes(one)
		}
		return set
	}
	return typeAny
}

func typeOf(v any) types {
	switch v := v.(type) {
	case nil:
		return typeNull
	case bool:
		return typeBoolean
	case string:
		return typeString
	case []any:
		return typeArray
	case float64:
		if v == math.Trunc(v) {
			return typeInteger
		}
		return typeFraction
	}
	return typeObject
}

// text returns a value in JSON.
func text(v any) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return "?"
	}
	return strings.TrimSpace(out.String())
}
