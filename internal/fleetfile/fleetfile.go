// Package fleetfile parses fleet files, which list the servers of a fleet. A
// file is YAML or JSON, in mcpfleet's own form or in the mcpServers form of MCP
// clients. Parse replaces variables, fills in defaults and validates the file,
// so that its result can be run unchanged. It reports every problem with its
// line and the path of its key. A value from the environment stays one value,
// whatever it contains, and no message shows one.
//
// A file in a client's form belongs to that client, so no part of it makes Parse
// refuse the whole file. An entry that cannot run is left out, and keys that
// mean nothing here are ignored. File.Warnings lists these.
//
// The keys and their allowed values are defined once: by the struct types in
// view.go and their tags. The parser, View, Encode and Schema follow them.
//
// The package reads files and the environment only through Options, and starts
// no goroutine. All functions may be called at any time. Storing, comparing and
// running the specs is left to others.
package fleetfile

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// File is a valid fleet file.
type File struct {
	// DefaultServer is the default_server of the file, or "". A lone server is
	// the default anyway.
	DefaultServer fleet.ServerName
	Servers       map[fleet.ServerName]fleet.Spec
	Gateways      map[fleet.GatewayName]fleet.Gateway // nil if there are none
	// Warnings should be shown to the author of the file, each once.
	Warnings []Warning
	// Broken are the servers of a client's file that are left out because of an
	// error, sorted. Those that are deployed already should stay.
	Broken []fleet.ServerName
}

// Names returns the names of all servers, sorted.
func (f *File) Names() []fleet.ServerName {
	return slices.Sorted(maps.Keys(f.Servers))
}

// Options describe where a fleet file comes from.
type Options struct {
	// Filename is shown in errors. Relative paths in the file are relative to
	// its directory. If it ends in .json, only JSON is allowed.
	Filename string
	// Lookup finds a variable, as os.LookupEnv does. With nil there are none.
	Lookup func(name string) (string, bool)
	// ReadFile reads a file of variables that the fleet file names, as
	// os.ReadFile does. With nil such files are refused.
	ReadFile func(name string) ([]byte, error)
	// Stat checks whether an argument is an existing path, as os.Stat does. With
	// nil no path exists.
	Stat func(name string) (fs.FileInfo, error)
}

// OnDisk returns the options for a fleet file on this machine.
func OnDisk(filename string, lookup func(string) (string, bool)) Options {
	return Options{Filename: filename, Lookup: lookup, ReadFile: os.ReadFile, Stat: os.Stat}
}

// Parse parses a fleet file. Its error is an Errors with every problem.
func Parse(data []byte, opts Options) (*File, error) {
	return newParser(opts).file(data)
}

func newParser(opts Options) *parser {
	if opts.Lookup == nil {
		opts.Lookup = func(string) (string, bool) { return "", false }
	}
	return &parser{opts: opts, renamed: map[string]string{}, inputs: map[string]string{}}
}

func (p *parser) file(data []byte) (*File, error) {
	var f *File
	if root := p.document(data); root != nil {
		f = p.fileOf(root)
	}
	if err := p.errs.orNil(); err != nil {
		return nil, err
	}
	return f, nil
}

// parser parses one file and collects its errors.
type parser struct {
	opts       Options
	errs       Errors
	literal    bool              // no variables: a $ is a $, and there is no environment and no directory
	body       bool              // the document is one server, not a whole file
	incomplete bool              // servers have been left out because of errors
	clients    bool              // the file has the form of an MCP client's, at least in parts
	foreign    bool              // the current entry has that form
	visited    int               // entries of mappings so far, to stop files that multiply their merges
	renamed    map[string]string // names in a client's file that are not labels
	inputs     map[string]string // defaults of VS Code's inputs

	allowed, excluded []string // servers in the settings of gemini-cli

	// These make up the warnings.
	warnings         []Warning
	broken           []leftOut
	remote           []remoteEntry
	ignored, dropped []named // keys, and options of docker run
	absent           []named // mounts of docker run lines that do not exist on this machine
	losing           []named // servers that lose data with concurrent calls
	renames          []string
}

// remoteEntry is a server of a client's file to reach over HTTP.
type remoteEntry struct {
	name, path string
	node       *yaml.Node
}

// laterTopKeys are keys of coming versions, which are not reported as typing
// errors.
var laterTopKeys = []string{
	"access", "admission", "audit", "auth", "autoscaling", "catalogue", "cluster", "controllers", "limits", "nodes", "oauth", "policies",
	"rate_limit", "rate_limits", "secrets", "tenants", "tls", "tokens", "tracing", "users",
}

// fileOf decodes the root mapping.
func (p *parser) fileOf(root *yaml.Node) *File {
	p.clients = p.ofClients(root)
	entries, ok := p.mapping(root, "")
	if !ok {
		return nil
	}
	find := func(key string) *entry {
		for i := range entries {
			if entries[i].key == key {
				return &entries[i]
			}
		}
		return nil
	}
	own, foreign, def := find("servers"), find("mcpServers"), find("default_server")
	for _, section := range clientSections {
		if foreign == nil {
			foreign = find(section)
		}
	}
	if settings := settingsOf(root); foreign == nil && settings != nil {
		foreign = &entry{key: "mcp.servers", keyNode: settings, value: settings}
		p.readInputs(child(child(root, "mcp"), "inputs"))
	}
	if inputs := find("inputs"); inputs != nil {
		p.readInputs(inputs.value)
	}
	switch {
	case own != nil && foreign != nil:
		p.malformed(foreign.keyNode, "", "a file has either servers or mcpServers, not both")
		return nil
	case own == nil && foreign == nil:
		p.checkTopKeys(entries)
		p.malformed(root, "", "no servers: the file needs a key named servers")
		return nil
	}
	f := &File{Servers: map[fleet.ServerName]fleet.Spec{}}
	if foreign != nil {
		p.checkTopKeys(entries)
		p.readSwitches(root)
		if names := projectServers(root); len(names) > 0 {
			p.warnf(nil, "", "servers under projects are left out: %s; only those of mcpServers at the top are taken", strings.Join(names, ", "))
		}
		p.servers(f, foreign, true)
	} else {
		p.checkTopKeys(entries)
		p.servers(f, own, p.allOfVSCode(root))
	}
	p.incomplete = len(p.errs) > 0
	p.defaultServer(f, def)
	p.gateways(f, find("gateways"))
	p.summary(f)
	return f
}

// knownTopKeys are the suggestions for a mistyped key at the top.
var knownTopKeys = []string{"default_server", "gateways", "servers", "mcpServers"}

// checkTopKeys refuses unknown keys at the top. In a client's file they belong to
// the client, so only those that may be mistyped are listed in a warning.
func (p *parser) checkTopKeys(entries []entry) {
	for _, e := range entries {
		switch {
		case documentShape.has(e.key):
		case p.clients:
			if hint := didYouMean(e.key, []string{"default_server"}); hint != "" {
				p.ignored = addNamed(p.ignored, e.key+strings.Replace(hint, "; did", ", did", 1), "at the top")
			}
		default:
			p.unknownKey(e, "", knownTopKeys, laterTopKeys)
		}
	}
}

func (p *parser) servers(f *File, section *entry, foreign bool) {
	if isNull(section.value) {
		p.malformed(section.keyNode, section.key, "no servers: the key has no value")
		return
	}
	entries, ok := p.mapping(section.value, section.key)
	if !ok {
		return
	}
	names := map[string]bool{} // names in the file that are valid
	for _, e := range entries {
		names[e.key] = badName(e.key) == ""
	}
	for _, e := range entries {
		if p.switchedOff(e.key) {
			continue
		}
		path, shown := section.key+"."+e.key, e.key
		client := foreign || p.ofVSCode(e.value)
		if client && badName(e.key) != "" {
			// Clients allow any name.
			e.key = labelFor(e.key, names)
			names[e.key] = true
			p.renamed[shown] = e.key
		}
		if why := badName(e.key); why != "" {
			if proposal := proposeName(e.key); proposal != "" {
				why += "; rename it, for example to " + proposal
			}
			p.errorf(e.keyNode, path, "%s", why)
			continue
		}
		before := len(p.errs)
		spec, keep := p.server(e, path, shown, client)
		switch {
		case client && !p.literal && len(p.errs) > before:
			p.leaveOut(fleet.ServerName(e.key), e.keyNode, path, before)
		case keep:
			if e.key != shown {
				p.renames = append(p.renames, fmt.Sprintf("%q is served as %s", shown, e.key))
			}
			f.Servers[fleet.ServerName(e.key)] = spec
		}
	}
}

func (p *parser) defaultServer(f *File, def *entry) {
	if def == nil {
		return
	}
	name, ok := p.str(def.value, def.key)
	if !ok {
		return
	}
	if label, ok := p.renamed[name]; ok {
		name = label
	}
	f.DefaultServer = fleet.ServerName(name)
	if _, known := f.Servers[f.DefaultServer]; known {
		return
	}
	if !p.incomplete && p.clients && (len(p.broken) > 0 || len(p.remote) > 0) {
		p.warnf(def.value, def.key, "there is no server named %s, or it is left out", describe(resolve(def.value)))
		f.DefaultServer = ""
		return
	}
	p.noServer(f, def.value, def.key, name)
}

// noServer refuses the name of a server that the file does not have.
func (p *parser) noServer(f *File, n *yaml.Node, at, name string) {
	if p.incomplete {
		return // it may have been left out because of an error
	}
	names := make([]string, 0, len(f.Servers))
	for _, n := range f.Names() {
		names = append(names, string(n))
	}
	p.errorf(n, at, "there is no server named %s%s", describe(resolve(n)), didYouMean(name, names))
}
