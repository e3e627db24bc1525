package desired

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// putGateways replaces the whole set of gateways. All their servers must be stored
// by now.
func (d *draft) putGateways(gateways map[fleet.GatewayName]fleet.Gateway) error {
	names := slices.AppendSeq(slices.Collect(maps.Keys(gateways)), maps.Keys(d.next.Gateways))
	slices.Sort(names)
	next := make(map[fleet.GatewayName]fleet.Gateway, len(gateways))
	for _, name := range slices.Compact(names) {
		g, listed := gateways[name]
		old, stored := d.next.Gateways[name]
		if !listed {
			d.gatewayChanged(Change{Gateway: name, Kind: GatewayRemoved})
			continue
		}
		if err := d.checkGateway(name, &g); err != nil {
			return err
		}
		next[name] = g
		if fields := compare(gatewayFields(&old), gatewayFields(&g)); !stored || len(fields) > 0 {
			d.gatewayChanged(Change{Gateway: name, Kind: GatewaySet, Fields: fields})
		}
	}
	if len(next) == 0 {
		next = nil // as it is after a round trip
	}
	d.next.Gateways = next
	return nil
}

func (d *draft) gatewayChanged(c Change) {
	d.next.Written = d.index
	d.changed(c)
}

func (d *draft) checkGateway(name fleet.GatewayName, g *fleet.Gateway) error {
	if name == "" || len(g.Servers) == 0 {
		return fmt.Errorf("%w: gateways: a gateway needs a name and a server", fleet.ErrInvalid)
	}
	for _, server := range g.Servers {
		if d.next.Servers[server] == nil {
			return fmt.Errorf("%w: gateways.%s.servers: there is no server named %s", fleet.ErrInvalid, name, server)
		}
	}
	return nil
}

// gatewayOf returns the first gateway, by name, that lists a server, or "".
func (s *State) gatewayOf(server fleet.ServerName) fleet.GatewayName {
	for _, name := range slices.Sorted(maps.Keys(s.Gateways)) {
		if slices.Contains(s.Gateways[name].Servers, server) {
			return name
		}
	}
	return ""
}

func gatewaysNeed(gateways map[fleet.GatewayName]fleet.Gateway) int {
	if len(gateways) > 0 {
		return 4
	}
	return 1
}

func gatewayFields(g *fleet.Gateway) []field {
	return append([]field{{name: "servers", text: jsonUnless(len(g.Servers) == 0, g.Servers)}}, toolsFields(&g.Tools)...)
}

// toolsFields returns the fields of a choice of tools.
func toolsFields(t *fleet.Tools) []field {
	fields := []field{{name: "tools.allow", text: list(t.Allow)}, {name: "tools.deny", text: list(t.Deny)}}
	optional := func(name string, value *string) {
		if value != nil {
			fields = append(fields, field{name: name, text: jsonUnless(false, *value)})
		}
	}
	hint := func(name string, value *bool) {
		if value != nil {
			fields = append(fields, field{name: name, text: jsonUnless(false, *value)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Overrides)) {
		o, at := t.Overrides[name], "tools.overrides."+name+"."
		fields = append(fields, field{name: at + "rename", text: jsonUnless(o.Rename == "", o.Rename)})
		optional(at+"title", o.Title)
		optional(at+"description", o.Description)
		optional(at+"annotations.title", o.Annotations.Title)
		hint(at+"annotations.readOnlyHint", o.Annotations.ReadOnly)
		hint(at+"annotations.destructiveHint", o.Annotations.Destructive)
		hint(at+"annotations.idempotentHint", o.Annotations.Idempotent)
		hint(at+"annotations.openWorldHint", o.Annotations.OpenWorld)
	}
	return fields
}
