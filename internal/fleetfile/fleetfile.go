// Package fleetfile reads the fleet file: the servers a fleet shall run, in
// YAML or JSON, in mcpfleet's own form or in the mcpServers form of MCP
// clients. It replaces variables, fills in defaults, validates, and tells
// every problem with its line and the path of its key, so that what Parse
// returns can be run as it is. It promises that a value from the environment
// stays one value, whatever it contains, and that no message shows one.
//
// It reads no file and no environment by itself, starts no goroutine, and
// leaves to others to store, compare and run the specs. All functions may be
// called at any time.
//
// What the keys are, and which values they take, is told once: by the struct
// types in view.go and their tags. The parser, View, Encode and Schema follow
// them.
package fleetfile

import (
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// File is a fleet file that was read and found valid.
type File struct {
	// DefaultServer is the server that bare tool names belong to, as the file
	// names it; "" if it names none. As long as a server is the only one it is
	// the default one anyway.
	DefaultServer fleet.ServerName
	Servers       map[fleet.ServerName]fleet.Spec
}

// Names returns the names of all servers, sorted.
func (f *File) Names() []fleet.ServerName {
	return slices.Sorted(maps.Keys(f.Servers))
}

// Options say where a fleet file comes from.
type Options struct {
	// Filename is shown in errors; relative paths in the file are relative to
	// its directory. A name that ends in .json allows JSON only.
	Filename string
	// Lookup finds a variable, as os.LookupEnv does. Nil finds none.
	Lookup func(name string) (string, bool)
}

// Parse reads a fleet file. Its error is an Errors, with all that is wrong.
func Parse(data []byte, opts Options) (*File, error) {
	return newParser(opts).file(data)
}

func newParser(opts Options) *parser {
	if opts.Lookup == nil {
		opts.Lookup = func(string) (string, bool) { return "", false }
	}
	return &parser{opts: opts, renamed: map[string]string{}}
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

// parser collects the errors of one file.
type parser struct {
	opts    Options
	errs    Errors
	literal bool              // a dollar sign is just one, there is no environment and no directory
	body    bool              // the document is one server, not a file of them
	foreign bool              // reading the mcpServers form
	visited int               // nodes of mappings seen, a bound for merge bombs
	renamed map[string]string // names of the mcpServers form that are no labels
}

// laterTopKeys are keys of coming versions, told from typing errors.
var laterTopKeys = []string{
	"access", "admission", "audit", "auth", "autoscaling", "catalogue", "cluster", "controllers", "limits", "nodes", "oauth", "policies",
	"rate_limit", "rate_limits", "secrets", "tenants", "tls", "tokens", "tracing", "users",
}

// fileOf decodes the root mapping.
func (p *parser) fileOf(root *yaml.Node) *File {
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
		// The rest of such a file belongs to the client it was written for.
		p.servers(f, foreign, true)
	} else {
		p.checkTopKeys(entries)
		p.servers(f, own, false)
	}
	p.defaultServer(f, def)
	return f
}

// knownTopKeys are those to propose for a misspelt one.
var knownTopKeys = []string{"default_server", "servers", "mcpServers"}

// checkTopKeys refuses what does not belong at the top.
func (p *parser) checkTopKeys(entries []entry) {
	for _, e := range entries {
		if !documentShape.has(e.key) {
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
	for _, e := range entries {
		path := section.key + "." + e.key
		if name := proposeName(e.key); name != "" && badName(e.key) != "" && (foreign || p.ofVSCode(e.value)) {
			// Such files are accepted as they are: clients allow any name.
			if slices.ContainsFunc(entries, func(other entry) bool { return other.key != e.key && proposeName(other.key) == name }) {
				p.errorf(e.keyNode, path, "the name becomes %s, as does that of another server; rename one", name)
				continue
			}
			p.renamed[e.key] = name
			e.key = name
		}
		if why := badName(e.key); why != "" {
			if proposal := proposeName(e.key); proposal != "" {
				why += "; rename it, to " + proposal + " for example"
			}
			p.errorf(e.keyNode, path, "%s", why)
			continue
		}
		if spec, keep := p.server(e.value, path, foreign); keep {
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
	if _, known := f.Servers[f.DefaultServer]; known || len(p.errs) > 0 {
		return // with errors, the server may just have been left out
	}
	names := make([]string, 0, len(f.Servers))
	for _, n := range f.Names() {
		names = append(names, string(n))
	}
	p.errorf(def.value, def.key, "there is no server named %s%s", describe(resolve(def.value)), didYouMean(name, names))
}
