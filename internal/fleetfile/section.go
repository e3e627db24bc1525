package fleetfile

import (
	"math"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// The keys of a server that are mappings themselves.

func (d *serverDecoder) resources(n *yaml.Node, at string) {
	keys := []string{"cpus", "memory", "pids"}
	d.section(n, at, keys, []string{"devices", "gpus", "limits", "reservations"}, func(e entry, at string) {
		switch e.key {
		case "cpus":
			set(&d.spec.Resources.CPUs)(d.cpus(e.value, at))
		case "memory":
			set(&d.spec.Resources.Memory)(d.memory(e.value, at))
		case "pids":
			set(&d.spec.Resources.PIDs)(d.integer(e.value, at, 1, math.MaxInt32))
		}
	})
}

func (d *serverDecoder) health(n *yaml.Node, at string) {
	h := &d.spec.Health
	keys := []string{"failures", "period", "timeout"}
	var timeoutNode *yaml.Node
	d.section(n, at, keys, nil, func(e entry, at string) {
		switch e.key {
		case "period":
			set(&h.Period)(d.duration(e.value, at, 100*time.Millisecond, 24*time.Hour))
		case "timeout":
			timeoutNode = e.value
			set(&h.Timeout)(d.duration(e.value, at, time.Millisecond, 24*time.Hour))
		case "failures":
			setInt(&h.Failures)(d.integer(e.value, at, 1, 1000))
		}
	})
	if h.Timeout > h.Period {
		if timeoutNode != nil {
			d.errorf(timeoutNode, at+".timeout", "must not be longer than the period, which is %s", h.Period)
		}
		h.Timeout = h.Period // the default, for a short period
	}
}

// section decodes a mapping with known keys. No value is an empty mapping.
func (d *serverDecoder) section(n *yaml.Node, at string, known, later []string, decode func(e entry, at string)) {
	if isNull(n) {
		return
	}
	entries, _ := d.mapping(n, at)
	for _, e := range entries {
		if !slices.Contains(known, e.key) {
			d.unknownKey(e, at, known, later)
			continue
		}
		decode(e, join(at, e.key))
	}
}
