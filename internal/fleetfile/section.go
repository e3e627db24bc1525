package fleetfile

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// This file decodes the keys of a server that are mappings.

func (d *serverDecoder) resources(n *yaml.Node, at string) {
	d.section(n, at, resourcesShape, []string{"limits", "reservations"}, func(e entry, at string, k keyShape) {
		switch e.key {
		case "cpus":
			set(&d.spec.Resources.CPUs)(d.cpus(e.value, at))
		case "memory":
			set(&d.spec.Resources.Memory)(d.memory(e.value, at))
		case "pids":
			set(&d.spec.Resources.PIDs)(d.integer(e.value, at, k))
		case "custom":
			d.customResources(e.value, at, k)
		}
	})
}

func (d *serverDecoder) customResources(n *yaml.Node, at string, k keyShape) {
	if isNull(n) {
		return
	}
	entries, _ := d.mapping(n, at)
	for _, e := range entries {
		at := join(at, e.key)
		if err := fleet.CheckResource(e.key); err != nil {
			d.errorf(e.keyNode, at, "%s", err)
			continue
		}
		if count, ok := d.integer(e.value, at, k); ok {
			if d.spec.Resources.Custom == nil {
				d.spec.Resources.Custom = map[string]int64{}
			}
			d.spec.Resources.Custom[e.key] = count
		}
	}
}

func (d *serverDecoder) health(n *yaml.Node, at string) {
	h := &d.spec.Health
	if word := resolve(n); word.Kind == yaml.ScalarNode && !isNull(n) {
		on, ok := switches[strings.ToLower(word.Value)]
		if !ok {
			d.errorf(n, at, "must be a mapping of period, timeout and failures, or the word off, not %q", word.Value)
		}
		h.Off = ok && !on
		return
	}
	var timeoutNode *yaml.Node
	d.section(n, at, healthShape, nil, func(e entry, at string, k keyShape) {
		switch e.key {
		case "period":
			set(&h.Period)(d.duration(e.value, at, k))
		case "timeout":
			timeoutNode = e.value
			set(&h.Timeout)(d.duration(e.value, at, k))
		case "failures":
			setInt(&h.Failures)(d.integer(e.value, at, k))
		}
	})
	if h.Timeout > h.Period {
		if timeoutNode != nil {
			d.errorf(timeoutNode, at+".timeout", "must not be longer than the period, which is %s", h.Period)
		}
		h.Timeout = h.Period // the default for a short period
	}
}

// hasValue refuses a key without a value, which is most likely an unfinished line.
func (d *serverDecoder) hasValue(n *yaml.Node, at string) bool {
	if isNull(n) {
		d.malformed(n, at, "has no value; write {} for the defaults")
		return false
	}
	return true
}

// switches are the words that health accepts in place of a mapping.
var switches = map[string]bool{"off": false, "false": false, "on": true, "true": true}

// section decodes a mapping with known keys. A key without a value is an empty
// mapping.
func (p *parser) section(n *yaml.Node, at string, known shape, later []string, decode func(e entry, at string, k keyShape)) {
	if isNull(n) {
		return
	}
	entries, _ := p.mapping(n, at)
	for _, e := range entries {
		k, ok := known.keys[e.key]
		if !ok {
			p.unknownKey(e, at, known.order, later)
			continue
		}
		decode(e, join(at, e.key), k)
	}
}
