package breaking

import (
	"maps"
	"math"
	"strings"
)

// bound is a least or a greatest value. Its zero value bounds nothing.
type bound struct {
	is        bool
	value     float64
	exclusive bool
}

// object is what one schema says about the members of an object.
type object struct {
	members    map[string]node
	patterns   bool  // patternProperties may allow, or restrict, others
	additional *node // nil: others are allowed
}

// closed reports whether it refuses members that it does not list.
func (o *object) closed() bool {
	return !o.patterns && o.additional != nil && o.additional.value == false
}

// rules is what several schemas, all of which must hold, demand together.
type rules struct {
	types    types
	values   map[string]any // the only values, by their JSON; nil: there are others
	required map[string]bool
	objects  []object
	items    []node
	bounds   map[string]bound // by the names of boundKeys
	patterns []string
	multiple []float64
	unique   bool

	// alternatives means that there are several alternatives, of which only types
	// and values are known.
	alternatives bool
	// unknown means that more is demanded, and nothing is known of it.
	unknown bool
}

// boundKeys are the keywords that set bounds, without those that are exclusive.
var boundKeys = []struct {
	key   string
	least bool
	types types  // that it is about
	words string // what must be "at least 1"
}{
	{"minimum", true, typeNumber, ""},
	{"maximum", false, typeNumber, ""},
	{"minLength", true, typeString, " characters"},
	{"maxLength", false, typeString, " characters"},
	{"minItems", true, typeArray, " items"},
	{"maxItems", false, typeArray, " items"},
	{"minProperties", true, typeObject, " members"},
	{"maxProperties", false, typeObject, " members"},
}

// unfollowed are keywords that restrict values in ways that are not followed.
var unfollowed = []string{
	"not", "if", "dependentSchemas", "dependencies", "dependentRequired", "$dynamicRef", "$recursiveRef",
	"unevaluatedProperties", "unevaluatedItems", "propertyNames", "contains", "prefixItems",
}

func newRules() rules {
	return rules{types: typeAny, required: make(map[string]bool), bounds: make(map[string]bound)}
}

// rulesOf returns what all the schemas demand together.
func (d *document) rulesOf(all []node) rules {
	r, within := newRules(), make(map[string]bool)
	for _, n := range all {
		d.add(&r, n, within)
	}
	r.enumerate()
	return r
}

// enumerate lists the values of types that have few.
func (r *rules) enumerate() {
	if r.values != nil || r.types&^(typeNull|typeBoolean) != 0 {
		return
	}
	var values []any
	if r.types&typeNull != 0 {
		values = append(values, nil)
	}
	if r.types&typeBoolean != 0 {
		values = append(values, false, true)
	}
	r.allowOnly(values)
}

// add adds what a schema demands. within has the schemas that were added already,
// by their place: one that refers to itself demands nothing more.
func (d *document) add(r *rules, n node, within map[string]bool) {
	schema, ok := n.value.(map[string]any)
	if d.steps += 1 + sizeOf(schema); d.steps > maxSteps || len(n.at) > maxPlace {
		r.unknown = true
		return
	}
	if n.value == false {
		r.types = 0
		return
	}
	if !ok || within[n.at] {
		return
	}
	within[n.at] = true
	if ref, is := schema["$ref"].(string); is {
		if to, found := d.resolve(ref); found {
			d.add(r, to, within)
		} else {
			r.unknown = true
		}
	}
	for _, part := range n.children("allOf") {
		d.add(r, part, within)
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if _, is := schema[key].([]any); is {
			d.addAlternatives(r, n.children(key), within)
		}
	}
	for _, key := range unfollowed {
		if _, is := schema[key]; is {
			r.unknown = true
		}
	}
	if t, is := schema["type"]; is {
		r.types &= readTypes(t)
	}
	if list, is := schema["enum"].([]any); is {
		r.allowOnly(list)
	}
	if value, is := schema["const"]; is {
		r.allowOnly([]any{value})
	}
	r.addObject(n, schema)
	r.addArray(n, schema)
	r.addBounds(schema)
	if pattern, is := schema["pattern"].(string); is {
		r.patterns = append(r.patterns, pattern)
	}
	if of, is := schema["multipleOf"].(float64); is && of > 0 {
		r.multiple = append(r.multiple, of)
	}
}

// addAlternatives adds that one of several schemas must hold. If all but one take
// only null, what that one demands is known: null has no members or bounds.
func (d *document) addAlternatives(r *rules, list []node, within map[string]bool) {
	var set types
	values, finite := []any{}, true
	var other []node
	for _, n := range list {
		one := newRules()
		d.add(&one, n, maps.Clone(within))
		one.enumerate()
		set |= one.types
		r.unknown = r.unknown || one.unknown
		finite = finite && one.values != nil
		for _, v := range one.values {
			values = append(values, v)
		}
		if one.types != typeNull {
			other = append(other, n)
		}
	}
	if finite {
		r.allowOnly(values)
	}
	types, before := r.types, r.values
	if len(other) == 1 {
		d.add(r, other[0], within)
		r.types, r.values = types, before
	} else {
		r.alternatives = r.alternatives || !finite
	}
	r.types &= set
}

// allowOnly demands that a value is one of these.
func (r *rules) allowOnly(list []any) {
	values := make(map[string]any, len(list))
	for _, v := range list {
		key := text(v)
		if _, both := r.values[key]; both || r.values == nil {
			values[key] = v
		}
	}
	r.values = values
}

func (r *rules) addObject(n node, schema map[string]any) {
	list, _ := schema["required"].([]any)
	for _, name := range list {
		if name, is := name.(string); is {
			r.required[name] = true
		}
	}
	var o object
	members := n.child("properties")
	if names, is := members.value.(map[string]any); is {
		o.members = make(map[string]node, len(names))
		for name := range names {
			o.members[name] = members.child(name)
		}
	}
	_, o.patterns = schema["patternProperties"].(map[string]any)
	if _, is := schema["additionalProperties"]; is {
		additional := n.child("additionalProperties")
		o.additional = &additional
	}
	if o.members != nil || o.patterns || o.additional != nil {
		r.objects = append(r.objects, o)
	}
}

func (r *rules) addArray(n node, schema map[string]any) {
	switch schema["items"].(type) {
	case map[string]any, bool:
		r.items = append(r.items, n.child("items"))
	case []any: // an item by its place, in older schemas
		r.unknown = true
	}
	r.unique = r.unique || schema["uniqueItems"] == true
}

func (r *rules) addBounds(schema map[string]any) {
	add := func(key string, least bool, b bound) {
		none := math.Abs(b.value) >= 1<<53-1 || least && b.value <= 0 && key != "minimum" // libraries write both
		if !none && tighter(least, r.bounds[key], b) {
			r.bounds[key] = b
		}
	}
	for _, k := range boundKeys {
		value, is := schema[k.key].(float64)
		exclusiveKey := "exclusive" + strings.ToUpper(k.key[:1]) + k.key[1:]
		add(k.key, k.least, bound{is: is, value: value, exclusive: schema[exclusiveKey] == true})
		value, is = schema[exclusiveKey].(float64)
		add(k.key, k.least, bound{is: is, value: value, exclusive: true})
	}
}

// tighter reports whether bound b allows less than a.
func tighter(least bool, a, b bound) bool {
	switch {
	case !b.is || !a.is:
		return b.is
	case a.value == b.value:
		return b.exclusive && !a.exclusive
	}
	return (b.value > a.value) == least
}
