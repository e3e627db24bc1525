package fleetfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Warning is a message to the author of a fleet file. The file is still used.
type Warning struct {
	File   string
	Line   int    // from 1; 0 if it is about the whole file
	Column int    // from 1; 0 if unknown
	Path   string // of the key, such as mcpServers.brave; may be ""
	Msg    string
}

// String returns file:line:column: path: message.
func (w Warning) String() string { return located(w.File, w.Line, w.Column, w.Path, w.Msg) }

// warnf adds a warning about a node.
func (p *parser) warnf(n *yaml.Node, path, format string, args ...any) {
	w := Warning{File: p.opts.Filename, Path: path, Msg: fmt.Sprintf(format, args...)}
	if n != nil {
		w.Line, w.Column = n.Line, n.Column
	}
	if len(p.warnings) < maxErrors && !slices.Contains(p.warnings, w) {
		p.warnings = append(p.warnings, w)
	}
}

// named is one subject of a warning, such as a key, with the servers that have
// it.
type named struct {
	subject string
	servers []string
}

// maxListed and maxNamed bound the length of a warning: the number of subjects,
// and of servers for each subject.
const maxListed, maxNamed = 20, 5

func (n named) String() string {
	list := n.servers
	if more := len(list) - maxNamed; more > 0 {
		list = append(slices.Clone(list[:maxNamed]), fmt.Sprintf("and %d more", more))
	}
	return n.subject + " (" + strings.Join(list, ", ") + ")"
}

// addNamed adds a server to a subject.
func addNamed(all []named, subject, server string) []named {
	i := slices.IndexFunc(all, func(n named) bool { return n.subject == subject })
	if i < 0 {
		return append(all, named{subject, []string{server}})
	}
	if !slices.Contains(all[i].servers, server) {
		all[i].servers = append(all[i].servers, server)
	}
	return all
}

// listNamed returns the subjects as text, in the order of the file.
func listNamed(all []named) string {
	parts := make([]string, 0, maxListed+1)
	for i, n := range all {
		if i == maxListed {
			parts = append(parts, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		parts = append(parts, n.String())
	}
	return strings.Join(parts, ", ")
}

// leftOut is an entry of a client's file that has errors.
type leftOut struct {
	name fleet.ServerName
	node *yaml.Node
	path string
	errs Errors
}

// leaveOut moves the errors from index before onwards from the file to the entry
// that has them.
func (p *parser) leaveOut(name fleet.ServerName, n *yaml.Node, path string, before int) {
	p.broken = append(p.broken, leftOut{name, n, path, slices.Clone(p.errs[before:])})
	p.errs = p.errs[:before]
}

// summary adds the warnings about the whole file and about entries that are left
// out. If no server is left, the errors of those entries become errors of the
// file.
func (p *parser) summary(f *File) {
	if len(f.Servers) == 0 && len(p.errs) == 0 {
		for _, b := range p.broken {
			p.errs = append(p.errs, b.errs...)
		}
		for _, r := range p.remote {
			p.errorf(r.node, r.path, "%s", notStdio)
		}
	}
	for _, b := range p.broken {
		f.Broken = append(f.Broken, b.name)
		msgs := make([]string, 0, len(b.errs))
		for _, e := range b.errs {
			at := strings.TrimPrefix(strings.TrimPrefix(e.Path, b.path), ".")
			if at != "" {
				at += ": "
			}
			msgs = append(msgs, at+e.Msg)
		}
		where := b.node
		if len(b.errs) > 0 && b.errs[0].Line > 0 {
			where = &yaml.Node{Line: b.errs[0].Line, Column: b.errs[0].Column}
		}
		p.warnf(where, b.path, "this server is left out: %s", strings.Join(msgs, "; "))
	}
	slices.Sort(f.Broken)
	if len(p.remote) > 0 {
		names := make([]string, len(p.remote))
		for i, r := range p.remote {
			names[i] = r.name
		}
		p.warnf(nil, "", "remote servers are left out, since mcpfleet runs stdio servers: %s", strings.Join(names, ", "))
	}
	if len(p.ignored) > 0 {
		p.warnf(nil, "", "keys that mean nothing here are ignored: %s", listNamed(p.ignored))
	}
	if len(p.dropped) > 0 {
		p.warnf(nil, "", "options of docker run that mean nothing here are ignored: %s", listNamed(p.dropped))
	}
	if len(p.absent) > 0 {
		p.warnf(nil, "", "these directories do not exist on this machine, and podman does not create them as docker would; create them on the nodes: %s", listNamed(p.absent))
	}
	if len(p.renames) > 0 {
		p.warnf(nil, "", "names that are not DNS labels are changed: %s", strings.Join(p.renames, ", "))
	}
	if len(p.losing) > 0 {
		p.warnf(nil, "", "these servers lose changes if calls run at once; set max_ongoing_requests: 1 for them: %s", listNamed(p.losing))
	}
	slices.SortStableFunc(p.warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	f.Warnings = p.warnings
}

// notStdio is the error for a remote server.
const notStdio = "is a remote server; mcpfleet runs stdio servers, from a command or an image"
