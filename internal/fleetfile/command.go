package fleetfile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// command decodes a list, or one word.
func (d *serverDecoder) command(n *yaml.Node, at string) ([]string, bool) {
	if r := resolve(n); r.Kind == yaml.ScalarNode && !isNull(r) {
		s, ok := d.str(n, at)
		switch first, _, spaces := strings.Cut(s, " "); {
		case !ok || !spaces && !strings.ContainsAny(s, "\t\n"):
		case !d.foreign:
			d.malformed(n, at, "must be a list of strings when it has arguments, such as [\"npx\", \"-y\", \"package\"]")
			return nil, false
		case !strings.ContainsAny(first, `/\:`): // otherwise it may be a path with spaces
			d.malformed(n, at, "has the arguments in the same string; move them to args: %s", d.splitCommand(r.Value))
			return nil, false
		}
		return []string{s}, ok
	}
	list, ok := d.strings(n, at)
	if ok && (len(list) == 0 || list[0] == "") {
		d.errorf(n, at, "must not be empty")
		return nil, false
	}
	return list, ok
}

// splitCommand returns a command and its arguments as a client's file should have
// them. Variables are not replaced.
func (d *serverDecoder) splitCommand(text string) string {
	words := strings.Fields(text)
	for _, it := range d.argsGiven() {
		words = append(words, it.Value)
	}
	program, _ := json.Marshal(words[0])
	args, _ := json.Marshal(words[1:])
	return fmt.Sprintf(`"command": %s, "args": %s`, program, strings.ReplaceAll(string(args), `","`, `", "`))
}

// argsGiven returns those nodes of args that are scalars.
func (d *serverDecoder) argsGiven() []*yaml.Node {
	n, given := d.given["args"]
	if !given || resolve(n).Kind != yaml.SequenceNode {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(resolve(n).Content), func(c *yaml.Node) bool { return c.Kind != yaml.ScalarNode })
}
