package fleetfile

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// ToolsView is which tools are offered, and how they are shown, in the keys of the
// fleet file.
type ToolsView struct {
	Allow     []string                    `json:"allow,omitempty" kind:"tools" jsonschema_description:"The only tools that are offered. By default all are."`
	Deny      []string                    `json:"deny,omitempty" kind:"tools" jsonschema_description:"Tools that are not offered: they are not listed, and calls to them are answered as unknown."`
	Overrides map[string]ToolOverrideView `json:"overrides,omitempty" kind:"named" jsonschema_description:"How single tools are shown, by the names that they have without this."`
}

// ToolOverrideView is how one tool is shown, in the keys of the fleet file.
type ToolOverrideView struct {
	Rename      string               `json:"rename,omitempty" kind:"tool" jsonschema_description:"The name under which the tool is listed."`
	Title       *string              `json:"title,omitempty" kind:"string" jsonschema_description:"Replaces the tool's title."`
	Description *string              `json:"description,omitempty" kind:"string" jsonschema_description:"Replaces the tool's description."`
	Annotations *ToolAnnotationsView `json:"annotations,omitempty" kind:"section" jsonschema_description:"Replaces single annotations of the tool. The hints decide about retries, too."`
}

// ToolAnnotationsView is a tool's annotations under the names of the protocol.
type ToolAnnotationsView struct {
	Title           *string `json:"title,omitempty" kind:"string"`
	ReadOnlyHint    *bool   `json:"readOnlyHint,omitempty" kind:"flag"`
	DestructiveHint *bool   `json:"destructiveHint,omitempty" kind:"flag"`
	IdempotentHint  *bool   `json:"idempotentHint,omitempty" kind:"flag"`
	OpenWorldHint   *bool   `json:"openWorldHint,omitempty" kind:"flag"`
}

// GatewayView is a gateway in the keys of the fleet file.
type GatewayView struct {
	Servers []fleet.ServerName `json:"servers" kind:"list" jsonschema:"required" jsonschema_description:"The servers whose tools, prompts and resources the gateway has."`
	Tools   *ToolsView         `json:"tools,omitempty" kind:"section" jsonschema_description:"Which tools the gateway has of its servers, and how they are shown. Names are server__tool, or bare for the default server."`
}

// ViewGateway returns the view of a gateway.
func ViewGateway(g *fleet.Gateway) GatewayView {
	return GatewayView{Servers: g.Servers, Tools: toolsView(g.Tools)}
}

func toolsView(t fleet.Tools) *ToolsView {
	if t.IsZero() {
		return nil
	}
	v := &ToolsView{Allow: t.Allow, Deny: t.Deny}
	for name, o := range t.Overrides {
		if v.Overrides == nil {
			v.Overrides = make(map[string]ToolOverrideView, len(t.Overrides))
		}
		one := ToolOverrideView{Rename: o.Rename, Title: o.Title, Description: o.Description}
		if a := o.Annotations; a != (fleet.ToolAnnotations{}) {
			one.Annotations = &ToolAnnotationsView{a.Title, a.ReadOnly, a.Destructive, a.Idempotent, a.OpenWorld}
		}
		v.Overrides[name] = one
	}
	return v
}
