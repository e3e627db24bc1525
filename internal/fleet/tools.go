package fleet

import "slices"

// Tools says which tools are offered and how they are shown. The zero value leaves
// everything as the servers describe it. Names are those before Overrides.
type Tools struct {
	Allow     []string                `json:"allow,omitempty"` // empty allows all
	Deny      []string                `json:"deny,omitempty"`
	Overrides map[string]ToolOverride `json:"overrides,omitempty"`
}

// ToolOverride is how one tool is shown. Zero members change nothing.
type ToolOverride struct {
	Rename      string          `json:"rename,omitempty"`
	Title       *string         `json:"title,omitempty"`
	Description *string         `json:"description,omitempty"`
	Annotations ToolAnnotations `json:"annotations,omitzero"`
}

// ToolAnnotations are the annotations of a tool that the protocol defines. Nil ones
// are as the server says. Their names are the protocol's.
type ToolAnnotations struct {
	Title       *string `json:"title,omitempty"`
	ReadOnly    *bool   `json:"readOnlyHint,omitempty"`
	Destructive *bool   `json:"destructiveHint,omitempty"`
	Idempotent  *bool   `json:"idempotentHint,omitempty"`
	OpenWorld   *bool   `json:"openWorldHint,omitempty"`
}

// IsZero reports whether nothing is chosen and nothing is overridden.
func (t *Tools) IsZero() bool { return len(t.Allow)+len(t.Deny)+len(t.Overrides) == 0 }

// SwitchedOffBy returns the key of the fleet file that switches a tool off, or "".
func (t *Tools) SwitchedOffBy(tool string) string {
	switch {
	case slices.Contains(t.Deny, tool):
		return "tools.deny"
	case len(t.Allow) > 0 && !slices.Contains(t.Allow, tool):
		return "tools.allow"
	}
	return ""
}

// Offers reports whether a tool may be listed and called.
func (t *Tools) Offers(tool string) bool { return t.SwitchedOffBy(tool) == "" }

// Own returns the tool's own name, given that or the one that an override gives it.
func (t *Tools) Own(name string) string {
	for own, o := range t.Overrides {
		if o.Rename == name {
			return own // no two have the same
		}
	}
	return name
}

// Gateway is a named endpoint that merges some of the servers.
type Gateway struct {
	Servers []ServerName `json:"servers"`
	// Tools has names as the gateway lists them: those of the default server bare,
	// others as server__tool. The long form is understood for all.
	Tools Tools `json:"tools,omitzero"`
}

// GatewayName is the name of a gateway: a DNS label, usable as one path segment.
type GatewayName string
