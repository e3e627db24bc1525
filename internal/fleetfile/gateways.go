package fleetfile

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// maxGateways bounds the gateways of a fleet.
const maxGateways = 100

// gateways decodes the gateways, whose servers must be those of the file.
func (p *parser) gateways(f *File, section *entry) {
	if section == nil || isNull(section.value) {
		return
	}
	entries, ok := p.mapping(section.value, section.key)
	if !ok {
		return
	}
	if len(entries) > maxGateways {
		p.errorf(section.keyNode, section.key, "a fleet has at most %d gateways, not %d", maxGateways, len(entries))
		return
	}
	for _, e := range entries {
		at := join(section.key, e.key)
		if len(e.key) > maxName || !dnsLabel.MatchString(e.key) {
			p.errorf(e.keyNode, at, "a gateway's name consists of at most %d lower case letters, digits and inner hyphens", maxName)
			continue
		}
		if g, ok := p.gateway(f, e, at); ok {
			if f.Gateways == nil {
				f.Gateways = make(map[fleet.GatewayName]fleet.Gateway)
			}
			f.Gateways[fleet.GatewayName(e.key)] = g
		}
	}
}

func (p *parser) gateway(f *File, e entry, at string) (g fleet.Gateway, ok bool) {
	var servers, tools *yaml.Node
	before := len(p.errs)
	p.section(e.value, at, gatewayShape, laterGatewayKeys, func(e entry, at string, _ keyShape) {
		switch e.key {
		case "servers":
			servers = e.value
			g.Servers = p.gatewayServers(f, e.value, at)
		case "tools":
			tools = e.value
			p.tools(e.value, at, &g.Tools)
		}
	})
	if servers == nil || isNull(servers) || len(g.Servers) == 0 && len(p.errs) == before {
		if p.clients && servers != nil && resolve(servers).Kind == yaml.SequenceNode && len(resolve(servers).Content) > 0 {
			p.warnf(e.keyNode, at, "the gateway is left out, because all its servers are")
			return g, false
		}
		p.malformed(e.keyNode, join(at, "servers"), "is missing: a gateway needs a server")
	}
	if len(p.errs) == before && tools != nil {
		p.checkGatewayTools(f, tools, join(at, "tools"), &g)
	}
	return g, len(p.errs) == before
}

// laterGatewayKeys are keys of coming versions.
var laterGatewayKeys = []string{"access", "auth", "default_server", "rate_limit", "rate_limits"}

func (p *parser) gatewayServers(f *File, n *yaml.Node, at string) (names []fleet.ServerName) {
	list, _ := p.items(n, at)
	for _, it := range list {
		text := it.text
		if label, ok := p.renamed[text]; ok {
			text = label
		}
		name := fleet.ServerName(text)
		_, known := f.Servers[name]
		switch {
		case slices.Contains(names, name):
			p.errorf(it.node, it.path, "is listed already")
		case known:
			names = append(names, name)
		case p.clients && (len(p.broken) > 0 || len(p.remote) > 0):
			p.warnf(it.node, it.path, "there is no server named %s, or it is left out", describe(resolve(it.node)))
		default:
			p.noServer(f, it.node, it.path, text)
		}
	}
	return names
}

// checkGatewayTools refuses names that no tool of the gateway can have.
func (p *parser) checkGatewayTools(f *File, n *yaml.Node, at string, g *fleet.Gateway) {
	def := f.DefaultServer
	if def == "" && len(f.Servers) == 1 || len(g.Servers) == 1 {
		def = g.Servers[0]
	}
	check := func(n *yaml.Node, at, name string) {
		server, _, long := strings.Cut(name, "__")
		switch {
		case long && slices.Contains(g.Servers, fleet.ServerName(server)), slices.Contains(g.Servers, def):
		case long:
			p.errorf(n, at, "the gateway has no server named %q", server)
		default:
			p.errorf(n, at, "must be server__tool, because the default server is not among the servers of the gateway")
		}
	}
	for _, key := range []string{"allow", "deny"} {
		if list := child(n, key); list != nil {
			items, _ := p.items(list, join(at, key))
			for _, it := range items {
				check(it.node, it.path, it.text)
			}
		}
	}
	if overrides := child(n, "overrides"); overrides != nil {
		for name := range g.Tools.Overrides {
			check(keyNode(overrides, name), join(join(at, "overrides"), name), name)
		}
	}
}
