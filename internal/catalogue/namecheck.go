package catalogue

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// NameCheck warns of tools that a spec or a gateway names and no server lists, of
// names that two tools would have, and of tools that clients of the modern era do not
// see. A mistyped name in tools.deny would leave the tool callable, and nobody would
// know. Only the leader runs it.
type NameCheck struct {
	Desired Desired
	// Record records an event: about a server, or about a gateway with the name "".
	Record func(kind fleet.EventKind, server fleet.ServerName, revision fleet.Revision, message string)
	Log    *slog.Logger

	said    map[string]bool // what was reported, as long as it holds
	checked map[fleet.ServerName]checkedServer
	merged  string   // what the gateways were checked against
	found   []report // about gateways
}

// checkedServer is what the last check found about a server.
type checkedServer struct {
	against           string // its spec and catalogue
	unlisted, invalid string
}

// report is one problem.
type report struct {
	kind     fleet.EventKind
	server   fleet.ServerName
	revision fleet.Revision
	subject  string
	problem  string
}

// Run checks after every change of desired state, and warns once of each problem. It
// ends with ctx, the leader's tenure, and returns nil.
func (n *NameCheck) Run(ctx context.Context) error {
	look, cancel := n.Desired.Subscribe()
	defer cancel()
	n.said, n.checked, n.merged, n.found = nil, nil, "", nil
	for {
		n.check(n.Desired.State())
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		}
	}
}

// check reports the problems that the last check did not find.
func (n *NameCheck) check(st *desired.State) {
	said := make(map[string]bool)
	for _, r := range n.problems(st) {
		if r.problem == "" {
			continue
		}
		message := r.subject + ": " + r.problem
		said[message] = true
		if !n.said[message] {
			n.Log.Warn(warnings[r.kind], "subject", r.subject, "reason", r.problem)
			n.Record(r.kind, r.server, r.revision, message)
		}
	}
	n.said = said
}

// problems returns all problems. It looks again only at what has changed.
func (n *NameCheck) problems(st *desired.State) (all []report) {
	checked := make(map[fleet.ServerName]checkedServer)
	var merged strings.Builder
	for _, d := range st.List() {
		c := st.Servers[d.Name].Catalogue(d.Revision)
		if c == nil {
			continue
		}
		one := checkedServer{against: fmt.Sprintf("%s %d", c.Hash, d.Written)}
		fmt.Fprintf(&merged, "%s %s, ", d.Name, one.against)
		if was := n.checked[d.Name]; was.against == one.against {
			one = was
		} else {
			tools := parseTools(d.Name, c.Tools)
			one.unlisted, one.invalid = unlisted(&d.Spec, tools), invalid(tools)
		}
		checked[d.Name] = one
		subject := "server " + string(d.Name)
		all = append(all,
			report{fleet.EventUnknownTool, d.Name, d.Revision, subject, one.unlisted},
			report{fleet.EventInvalidTool, d.Name, d.Revision, subject, one.invalid})
	}
	n.checked = checked
	if st == nil || len(st.Gateways) == 0 {
		return all
	}
	fmt.Fprint(&merged, st.Written)
	if n.merged != merged.String() {
		n.merged, n.found = merged.String(), nil
		snap := namesOf(st)
		for _, name := range slices.Sorted(maps.Keys(snap.gateways)) {
			n.found = append(n.found, report{fleet.EventUnknownTool, "", 0, "gateway " + string(name), snap.gateways[name].unlisted()})
		}
	}
	return append(all, n.found...)
}

// warnings are the messages of the log.
var warnings = map[fleet.EventKind]string{
	fleet.EventUnknownTool: "fleet file names a tool that is not listed, or not by this name",
	fleet.EventInvalidTool: "tools left out for modern clients",
}

// namesOf returns the names of all tools of a state.
func namesOf(st *desired.State) *snapshot {
	servers := make(map[fleet.ServerName]*server)
	for _, d := range st.List() {
		v := Server{Name: d.Name, Tools: d.Spec.Tools()}
		c := st.Servers[d.Name].Catalogue(d.Revision)
		if c != nil {
			v.Offers = []Offer{{Revision: d.Revision, Hash: "known"}}
		}
		servers[d.Name] = (*server)(nil).update(&v, func(string) *fleet.Catalogue { return c })
	}
	return newSnapshot(st.Default(), servers, st.Gateways)
}

// unlisted says in words which tools a spec names that are not among tools, and which
// may be meant. It returns "" if there is nothing to say.
func unlisted(s *fleet.Spec, tools []*tool) string {
	var listed []string
	for _, t := range tools {
		listed = append(listed, t.Name)
	}
	choice := s.Tools()
	shown := make([]*tool, 0, len(tools))
	for _, t := range tools {
		if choice.Offers(t.Name) {
			shown = append(shown, t)
		}
	}
	var p problems
	p.names("default_tool", listed, choice.Own(s.DefaultTool))
	p.names("tools.allow", listed, choice.Allow...)
	p.names("tools.deny", listed, choice.Deny...)
	p.overrides(choice.Overrides, listed, override(shown, choice.Overrides))
	return strings.Join(p, ", ")
}

// unlisted does the same for a gateway, once the tools of all its servers are known.
func (s *snapshot) unlisted() string {
	if len(s.unknown()) > 0 {
		return ""
	}
	var listed []string // by both names, whether the gateway switches them off or not
	for _, srv := range s.order {
		for _, t := range srv.order {
			listed = append(listed, s.rootName(srv, t.listed))
			if srv.name == s.def {
				listed = append(listed, s.longName(srv, t.listed))
			}
		}
	}
	var shown []*tool
	for _, t := range s.tools {
		was := *t.tool
		was.listed = s.rootName(t.server, t.here)
		shown = append(shown, &was)
	}
	c := &s.gateway.Tools
	var p problems
	p.names("tools.allow", listed, c.Allow...)
	p.names("tools.deny", listed, c.Deny...)
	p.overrides(c.Overrides, listed, override(shown, c.Overrides))
	return strings.Join(p, ", ")
}

// problems are in words.
type problems []string

func (p *problems) names(key string, listed []string, names ...string) {
	for _, name := range names {
		if name != "" && !slices.Contains(listed, name) {
			*p = append(*p, fmt.Sprintf("%s names %q, which is not listed%s", key, name, nearest.Hint(name, listed, nil)))
		}
	}
}

// overrides adds what overrides cannot do. shown are the tools as they are shown.
func (p *problems) overrides(overrides map[string]fleet.ToolOverride, listed []string, shown []*tool) {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		p.names("tools.overrides", listed, name)
		to := overrides[name].Rename
		if to == "" || to == name {
			continue
		}
		if slices.ContainsFunc(shown, func(t *tool) bool { return t.listed == name }) {
			*p = append(*p, fmt.Sprintf("tools.overrides.%s.rename: another tool has the name %q", name, to))
		}
	}
}

// invalid says which tools clients of the modern era do not see, and why.
func invalid(tools []*tool) string {
	var all []string
	for _, t := range tools {
		if t.headers != nil {
			all = append(all, fmt.Sprintf("tool %s is left out for modern clients: %v", quote(t.Name), t.headers))
		}
	}
	if more := len(all) - maxInvalid; more > 0 {
		all = append(all[:maxInvalid], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(all, "; ")
}

// maxInvalid is how many such tools one message names.
const maxInvalid = 10
