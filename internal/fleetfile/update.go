package fleetfile

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/expect"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// update decodes the update policy. The default one is not stored.
func (d *serverDecoder) update(n *yaml.Node, at string) {
	u := fleet.DefaultUpdate()
	given := map[string]*yaml.Node{}
	before := len(d.errs)
	d.section(n, at, updateShape, []string{"batch", "mirror", "order", "strategy"}, func(e entry, at string, k keyShape) {
		given[e.key] = e.value
		switch e.key {
		case "max_surge":
			set(&u.MaxSurge)(d.amount(e.value, at, k))
		case "max_unavailable":
			set(&u.MaxUnavailable)(d.amount(e.value, at, k))
		case "min_ready":
			set(&u.MinReady)(d.duration(e.value, at, k))
		case "progress_deadline":
			set(&u.ProgressDeadline)(d.duration(e.value, at, k))
		case "verify":
			u.Verify = d.verify(e.value, at)
		case "on_breaking_tools":
			set(&u.OnBreakingTools)(d.choice(e.value, at, k))
		case "canary":
			u.Canary = d.canary(e.value, at)
		}
	})
	if len(d.errs) > before {
		return
	}
	if u.MaxSurge.IsZero() && u.MaxUnavailable.IsZero() {
		d.errorf(given["max_surge"], join(at, "max_surge"), "must not be 0 if max_unavailable is 0: no replica could be replaced")
	}
	if u.ProgressDeadline <= u.MinReady {
		key := "progress_deadline"
		if given[key] == nil {
			key = "min_ready"
		}
		d.errorf(given[key], join(at, key), "progress_deadline, which is %s, must be longer than min_ready, which is %s", u.ProgressDeadline, u.MinReady)
	}
	if !reflect.DeepEqual(u, fleet.DefaultUpdate()) {
		d.spec.Update = &u
	}
}

// amount decodes a number of replicas, or a share of them.
func (d *serverDecoder) amount(n *yaml.Node, at string, k keyShape) (fleet.Amount, bool) {
	const want = "a number of replicas, or a share such as 25%"
	text, ok := d.text(n, at, want)
	if !ok {
		return fleet.Amount{}, false
	}
	if strings.HasSuffix(text, "%") {
		percent, ok := d.share(n, at, text, want)
		return fleet.Amount{Percent: percent}, ok
	}
	count, ok := d.integerAs(n, at, k, want)
	return fleet.Amount{Count: int(count)}, ok
}

// share decodes a share from 0% to 100%, the text of a node.
func (d *serverDecoder) share(n *yaml.Node, at, text, want string) (float64, bool) {
	digits, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || strings.Trim(digits, "0123456789.") != "" {
		d.malformed(n, at, "must be %s, not %s", want, describe(resolve(n)))
		return 0, false
	}
	if percent > 100 {
		d.errorf(n, at, "must be at most 100%%, not %s", describe(resolve(n)))
		return 0, false
	}
	return percent, true
}

const (
	maxVerifyCalls = 20
	maxSteps       = 100
)

func (d *serverDecoder) verify(n *yaml.Node, at string) []fleet.VerifyCall {
	var calls []fleet.VerifyCall
	for i, c := range d.mappings(n, at, "calls, each with tool, args and expect", maxVerifyCalls) {
		call := fleet.VerifyCall{Args: json.RawMessage("{}"), Expect: expect.OK}
		at := fmt.Sprintf("%s[%d]", at, i)
		before := len(d.errs)
		d.section(c, at, verifyShape, []string{"timeout"}, func(e entry, at string, _ keyShape) {
			switch e.key {
			case "tool":
				set(&call.Tool)(d.str(e.value, at))
			case "args":
				set(&call.Args)(d.object(e.value, at))
			case "expect":
				set(&call.Expect)(d.expectation(e.value, at))
			}
		})
		if call.Tool == "" && len(d.errs) == before {
			d.malformed(c, join(at, "tool"), "is missing: a call needs the name of a tool")
		}
		calls = append(calls, call)
	}
	return calls
}

func (d *serverDecoder) expectation(n *yaml.Node, at string) (string, bool) {
	text, ok := d.str(n, at)
	if !ok {
		return "", false
	}
	if _, err := expect.Parse(text); err != nil {
		d.errorf(n, at, "%s", err)
		return "", false
	}
	return text, true
}

func (d *serverDecoder) canary(n *yaml.Node, at string) *fleet.Canary {
	c := &fleet.Canary{Hold: fleet.DefaultCanaryHold, Gate: fleet.GateAuto}
	before := len(d.errs)
	d.section(n, at, canaryShape, nil, func(e entry, at string, k keyShape) {
		switch e.key {
		case "steps":
			c.Steps = d.steps(e.value, at)
		case "hold":
			set(&c.Hold)(d.duration(e.value, at, k))
		case "gate":
			set(&c.Gate)(d.choice(e.value, at, k))
		}
	})
	if len(c.Steps) == 0 && len(d.errs) == before {
		d.malformed(n, join(at, "steps"), "needs a step, such as 5%%")
	}
	return c
}

// steps decodes growing shares of the calls.
func (d *serverDecoder) steps(n *yaml.Node, at string) []float64 {
	const want = "a share of the calls, such as 5%"
	list, ok := d.items(n, at)
	if !ok {
		return nil
	}
	if len(list) > maxSteps {
		d.errorf(n, at, "must have at most %d items, not %d", maxSteps, len(list))
		return nil
	}
	var steps []float64
	last := 0.0
	for _, it := range list {
		share, ok := d.share(it.node, it.path, it.text, want)
		switch {
		case !ok:
			continue
		case share == 0:
			d.errorf(it.node, it.path, "must be above 0%%")
		case share <= last:
			d.errorf(it.node, it.path, "must be above the step before it, which is %s", fleet.Amount{Percent: last})
		}
		last = share
		steps = append(steps, share)
	}
	return steps
}

// object decodes a mapping into a JSON object, whose strings have their variables
// replaced.
func (d *serverDecoder) object(n *yaml.Node, at string) (json.RawMessage, bool) {
	if resolve(n).Kind != yaml.MappingNode {
		d.malformed(n, at, "must be a mapping of keys to values, not %s", describe(resolve(n)))
		return nil, false
	}
	value, ok := d.value(n, at, 0)
	if !ok {
		return nil, false
	}
	text, err := json.Marshal(value)
	if err != nil { // plain data always encodes
		d.errorf(n, at, "%s", err)
		return nil, false
	}
	return text, true
}

// value decodes a node of any kind into a value for JSON.
func (d *serverDecoder) value(n *yaml.Node, at string, depth int) (any, bool) {
	n = resolve(n)
	if depth > maxJSONDepth {
		d.errorf(n, at, "nested too deeply")
		return nil, false
	}
	switch n.Kind {
	case yaml.MappingNode:
		entries, ok := d.mapping(n, at)
		out := make(map[string]any, len(entries))
		for _, e := range entries {
			v, valid := d.value(e.value, join(at, e.key), depth+1)
			out[e.key], ok = v, ok && valid
		}
		return out, ok
	case yaml.SequenceNode:
		out, ok := make([]any, 0, len(n.Content)), true
		for i, c := range n.Content {
			v, valid := d.value(c, fmt.Sprintf("%s[%d]", at, i), depth+1)
			out, ok = append(out, v), ok && valid
		}
		return out, ok
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, true
	case "!!bool", "!!int", "!!float":
		return d.plainValue(n, at)
	}
	return d.text(n, at, "a value that JSON has")
}

// plainValue returns a boolean or a number. A number that JSON has keeps its digits.
func (d *serverDecoder) plainValue(n *yaml.Node, at string) (any, bool) {
	if number := json.Number(n.Value); n.ShortTag() != "!!bool" && json.Valid([]byte(number)) {
		return number, true
	}
	var v any
	err := n.Decode(&v)
	if f, ok := v.(float64); err != nil || ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		d.malformed(n, at, "must be a value that JSON has, not %s", describe(n))
		return nil, false
	}
	return v, true
}
