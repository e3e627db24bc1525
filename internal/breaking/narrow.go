package breaking

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// maxShown is how many values a message lists.
const maxShown = 5

// comparison compares two schemas of a tool.
type comparison struct {
	tool     string
	old, new *document
	seen     map[string]bool // pairs of schemas that were compared, by where they are
	out      []Change
}

func (c *comparison) report(path, format string, args ...any) {
	subject := "argument " + plain(path) + " "
	if path == "" {
		subject = "the arguments as a whole "
	}
	c.out = append(c.out, Change{Tool: c.tool, Path: path, What: subject + fmt.Sprintf(format, args...)})
}

// compare reports what the new schemas do not allow any more and the old ones did.
func (c *comparison) compare(old, new []node, path string) {
	key := c.old.places(old) + " " + c.new.places(new)
	if c.seen[key] {
		return // a schema may refer to itself
	}
	c.seen[key] = true
	before, after := c.old.rulesOf(old), c.new.rulesOf(new)
	if before.unknown {
		return // it may have allowed less than it seems to
	}
	if path == "" {
		before.types &= typeObject // arguments are never anything else
	}
	if !c.compareValues(&before, &after, path) || before.alternatives {
		return
	}
	both := before.types & after.types
	if both&typeObject != 0 {
		c.compareMembers(&before, &after, path)
	}
	if both&typeArray != 0 {
		c.compareItems(&before, &after, path)
	}
	c.compareBounds(&before, &after, path)
	if both&typeString != 0 {
		for _, p := range after.patterns {
			if len(before.patterns) == 0 && before.values == nil {
				c.report(path, "must match the pattern %s now", text(p))
			}
		}
	}
}

// places returns where schemas stand in their document. A reference stands where
// its target does.
func (d *document) places(list []node) string {
	var out []string
	for _, n := range list {
		for range maxReferences {
			schema, _ := n.value.(map[string]any)
			ref, _ := schema["$ref"].(string)
			to, found := d.resolve(ref)
			if ref == "" || !found || restricts(schema) {
				break
			}
			n = to
		}
		out = append(out, n.at)
	}
	return strings.Join(out, ",")
}

// maxReferences bounds the references that are followed in a row.
const maxReferences = 16

// restricts reports whether a schema with a reference demands anything itself.
func restricts(schema map[string]any) bool {
	for key := range schema {
		if !slices.Contains([]string{"$ref", "title", "description", "default", "examples", "deprecated"}, key) {
			return true
		}
	}
	return false
}

// compareValues compares types and enumerated values. It reports whether what
// remains is worth comparing.
func (c *comparison) compareValues(before, after *rules, path string) bool {
	had, has := before.kinds(), after.kinds()
	if had&^has != 0 {
		if has == 0 {
			c.report(path, "took %s, and takes nothing now", had)
		} else {
			c.report(path, "took %s, and takes only %s now", had, has)
		}
		return had&has != 0
	}
	if after.values == nil {
		return true
	}
	if before.values == nil {
		c.report(path, "takes only %s now", list(slices.Sorted(maps.Keys(after.values))))
		return false
	}
	var gone []string
	for _, key := range slices.Sorted(maps.Keys(before.values)) {
		if _, still := after.values[key]; !still && before.types&typeOf(before.values[key]) != 0 {
			gone = append(gone, key)
		}
	}
	if len(gone) > 0 {
		c.report(path, "does not take %s any more", list(gone))
	}
	return true
}

// kinds returns the types of the values that the rules allow.
func (r *rules) kinds() types {
	if r.values == nil {
		return r.types
	}
	var set types
	for _, v := range r.values {
		set |= typeOf(v)
	}
	return set & r.types
}

// list lists some values.
func list(values []string) string {
	more := ""
	if n := len(values) - maxShown; n > 0 {
		values, more = values[:maxShown], fmt.Sprintf(" and %d more", n)
	}
	for i, v := range values {
		if len(v) > maxName {
			values[i] = strings.ToValidUTF8(v[:maxName], "") + "..."
		}
	}
	return strings.Join(values, ", ") + more
}

// member returns the schemas of a member of an object, whether it may be there,
// and whether it is listed, or explicitly allowed without being so.
func (r *rules) member(name string) (schemas []node, refused, listed, free bool) {
	for i := range r.objects {
		o := &r.objects[i]
		n, there := o.members[name]
		switch {
		case there:
			schemas, listed = append(schemas, n), true
		case o.patterns:
			free = true
		case o.closed():
			refused = true
		case o.additional != nil:
			schemas, free = append(schemas, *o.additional), true
		}
	}
	return schemas, refused, listed, free
}

// names returns the members that the rules list.
func (r *rules) names() map[string]bool {
	out := make(map[string]bool)
	for i := range r.objects {
		for name := range r.objects[i].members {
			out[name] = true
		}
	}
	return out
}

// closed reports whether members that are not listed are refused.
func (r *rules) closed() bool {
	return slices.ContainsFunc(r.objects, func(o object) bool { return o.closed() })
}

func (c *comparison) compareMembers(before, after *rules, path string) {
	for _, name := range slices.Sorted(maps.Keys(after.required)) {
		if !before.required[name] {
			c.report(join(path, name), "is required now")
		}
	}
	lists := len(after.names()) > 0
	for _, name := range slices.Sorted(maps.Keys(before.names())) {
		old, wasRefused, _, _ := before.member(name)
		new, refused, listed, free := after.member(name)
		switch {
		case wasRefused:
		case refused, lists && !listed && !free:
			c.report(join(path, name), "is gone")
		default:
			c.compare(old, new, join(path, name))
		}
	}
	if after.closed() && !before.closed() {
		if path == "" {
			c.out = append(c.out, Change{Tool: c.tool, What: "arguments that it does not list are refused now"})
		} else {
			c.report(path, "takes no members now that it does not list")
		}
	}
	if old, new := before.others(), after.others(); len(new) > 0 && !before.closed() {
		c.compare(old, new, join(path, "*"))
	}
}

// others returns the schemas of members that are not listed.
func (r *rules) others() (out []node) {
	for i := range r.objects {
		if o := &r.objects[i]; o.additional != nil && o.additional.value != false {
			out = append(out, *o.additional)
		}
	}
	return out
}

func (c *comparison) compareItems(before, after *rules, path string) {
	if after.unique && !before.unique {
		c.report(path, "must have no two equal items now")
	}
	if len(after.items) > 0 {
		c.compare(before.items, after.items, path+"[]")
	}
}

func (c *comparison) compareBounds(before, after *rules, path string) {
	if before.values != nil || after.values != nil {
		return // the values themselves were compared
	}
	both := before.types & after.types
	for _, k := range boundKeys {
		had, has := before.bounds[k.key], after.bounds[k.key]
		if both&typeFraction == 0 {
			had, has = had.whole(k.least), has.whole(k.least)
		}
		if both&k.types == 0 || !tighter(k.least, had, has) {
			continue
		}
		c.report(path, "must %s%s now, before: %s", has.words(k.least, k.words != ""), k.words, had.brief(k.least))
	}
	for _, m := range after.multiple {
		kept := slices.ContainsFunc(before.multiple, func(o float64) bool { return math.Mod(o, m) == 0 })
		whole := m == 1 && both&typeFraction == 0
		if both&typeNumber != 0 && !kept && !whole {
			c.report(path, "must be a multiple of %s now", text(m))
		}
	}
}

// whole returns the bound of whole numbers that says the same.
func (b bound) whole(least bool) bound {
	switch {
	case b.exclusive && least:
		return bound{is: b.is, value: math.Floor(b.value) + 1}
	case b.exclusive:
		return bound{is: b.is, value: math.Ceil(b.value) - 1}
	case least:
		return bound{is: b.is, value: math.Ceil(b.value)}
	}
	return bound{is: b.is, value: math.Floor(b.value)}
}

// words returns the bound as what follows "must": "be at least 1".
func (b bound) words(least, counted bool) string {
	verb := "be "
	if counted {
		verb = "have "
	}
	switch {
	case b.exclusive && least:
		return verb + "more than " + text(b.value)
	case b.exclusive:
		return verb + "less than " + text(b.value)
	case least:
		return verb + "at least " + text(b.value)
	}
	return verb + "at most " + text(b.value)
}

// brief returns the bound alone: "1", "above 1", "no such bound".
func (b bound) brief(least bool) string {
	switch {
	case !b.is:
		return "no bound"
	case b.exclusive && least:
		return "above " + text(b.value)
	case b.exclusive:
		return "below " + text(b.value)
	}
	return text(b.value)
}

// join returns the path of a member.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
