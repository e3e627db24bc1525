package rpc

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

func catalogueToPB(c *fleet.Catalogue) *fleetpb.Catalogue {
	p := &fleetpb.Catalogue{
		Hash: c.Hash, Protocol: text(c.Protocol), ServerInfo: c.ServerInfo, Capabilities: c.Capabilities,
		Instructions: text(c.Instructions), Tools: c.Tools,
		Era: string(c.Era), Resources: c.Resources, Templates: c.Templates, Prompts: c.Prompts,
	}
	for _, v := range c.Versions {
		p.Versions = append(p.Versions, text(v))
	}
	for method, h := range c.Hints {
		if p.Hints == nil {
			p.Hints = make(map[string]*fleetpb.CacheHint, len(c.Hints))
		}
		p.Hints[method] = &fleetpb.CacheHint{TtlMs: h.TTLMs, Scope: text(h.Scope)}
	}
	return p
}

func catalogueFromPB(p *fleetpb.Catalogue) fleet.Catalogue {
	c := fleet.Catalogue{
		Hash: p.GetHash(), Protocol: p.GetProtocol(), ServerInfo: p.GetServerInfo(), Capabilities: p.GetCapabilities(),
		Instructions: p.GetInstructions(), Tools: p.GetTools(),
		Era: fleet.Era(p.GetEra()), Versions: p.GetVersions(),
		Resources: p.GetResources(), Templates: p.GetTemplates(), Prompts: p.GetPrompts(),
	}
	for method, h := range p.GetHints() {
		if c.Hints == nil {
			c.Hints = make(map[string]fleet.CacheHint, len(p.GetHints()))
		}
		c.Hints[method] = fleet.CacheHint{TTLMs: h.GetTtlMs(), Scope: h.GetScope()}
	}
	return c
}
