package catalogue

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// NameCheck warns of tools that a spec names and its server does not list. A
// mistyped name in tools.deny would leave the tool callable, and nobody
// would know. Only the leader runs it.
type NameCheck struct {
	Desired Desired
	// Record records an event about a server.
	Record func(server fleet.ServerName, revision fleet.Revision, message string)
	Log    *slog.Logger

	checked map[fleet.ServerName]string // which names against which catalogue
}

// Run checks after every change of desired state, and warns once of each
// mismatch. It ends with ctx, the leader's tenure, and returns nil.
func (n *NameCheck) Run(ctx context.Context) error {
	look, cancel := n.Desired.Subscribe()
	defer cancel()
	n.checked = nil
	for {
		n.check(n.Desired.State())
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		}
	}
}

// check warns about servers whose names or catalogue changed since the last
// check.
func (n *NameCheck) check(st *desired.State) {
	checked := make(map[fleet.ServerName]string)
	for _, d := range st.List() {
		c := st.Servers[d.Name].Catalogue(d.Revision)
		s := &d.Spec
		if c == nil || s.DefaultTool == "" && len(s.EnabledTools)+len(s.DisabledTools) == 0 {
			continue
		}
		key := fmt.Sprintf("%s %q %q %q", c.Hash, s.DefaultTool, s.EnabledTools, s.DisabledTools)
		checked[d.Name] = key
		if n.checked[d.Name] == key {
			continue
		}
		if problem := unlisted(s, c); problem != "" {
			n.Log.Warn("fleet file names a tool that the server does not list", "server", d.Name, "reason", problem)
			n.Record(d.Name, d.Revision, "server "+string(d.Name)+": "+problem)
		}
	}
	n.checked = checked
}

// unlisted says in words which tools a spec names that the catalogue does not
// have, and which may be meant. It returns "" if the catalogue has them all.
func unlisted(s *fleet.Spec, c *fleet.Catalogue) string {
	var listed []string
	for _, raw := range c.Tools {
		if tool, err := mcp.ParseTool(raw); err == nil {
			listed = append(listed, tool.Name)
		}
	}
	var all []string
	check := func(key string, names ...string) {
		for _, name := range names {
			if name != "" && !slices.Contains(listed, name) {
				all = append(all, fmt.Sprintf("%s names %q, which the server does not list%s", key, name, nearest.Hint(name, listed, nil)))
			}
		}
	}
	check("default_tool", s.DefaultTool)
	check("tools.allow", s.EnabledTools...)
	check("tools.deny", s.DisabledTools...)
	return strings.Join(all, ", ")
}
