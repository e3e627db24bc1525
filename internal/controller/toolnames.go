package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// toolNames warns of tools that a spec names and its server does not list: a
// mistyped one in disabled_tools would stay callable, and nobody would know.
type toolNames struct {
	desired *store.Store
	record  func(events.Event)
	log     *slog.Logger

	looked map[fleet.ServerName]string // at which names and catalogue
}

// Run warns until ctx, the leader's tenure, ends: once of each state of things.
func (t *toolNames) Run(ctx context.Context) error {
	look, cancel := t.desired.Subscribe()
	defer cancel()
	t.looked = nil
	for {
		t.look(t.desired.State())
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		}
	}
}

// look warns of what is new.
func (t *toolNames) look(st *desired.State) {
	looked := make(map[fleet.ServerName]string)
	for _, d := range st.List() {
		c := st.Servers[d.Name].Catalogue(d.Revision)
		s := &d.Spec
		if c == nil || s.DefaultTool == "" && len(s.EnabledTools)+len(s.DisabledTools) == 0 {
			continue
		}
		key := fmt.Sprintf("%s %q %q %q", c.Hash, s.DefaultTool, s.EnabledTools, s.DisabledTools)
		looked[d.Name] = key
		if t.looked[d.Name] == key {
			continue
		}
		if why := unlisted(s, c); why != "" {
			t.log.Warn("fleet file names a tool that the server does not list", "server", d.Name, "reason", why)
			t.record(events.Event{Kind: fleet.EventUnknownTool, Server: d.Name, Revision: d.Revision, Message: "server " + string(d.Name) + ": " + why})
		}
	}
	t.looked = looked
}

// unlisted says in words which tools a spec names that the catalogue does not
// have, and what may be meant. It returns "" if there are none.
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
	check("enabled_tools", s.EnabledTools...)
	check("disabled_tools", s.DisabledTools...)
	return strings.Join(all, ", ")
}
