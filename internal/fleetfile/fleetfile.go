// Package fleetfile reads the fleet file: the servers a fleet shall run, in
// YAML or JSON, in mcpfleet's own form or in the mcpServers form of MCP
// clients. It replaces variables, fills in defaults, validates, and tells
// every problem with its line and the path of its key, so that what Parse
// returns can be run as it is. It promises that a value from the environment
// stays one value, whatever it contains, and that no message shows one.
//
// A file in a client's form belongs to that client, so nothing in it refuses
// the whole of it: an entry that cannot be run is left out, keys that mean
// nothing here are ignored, and File.Warnings says so.
//
// It reads files and the environment only through Options, starts no
// goroutine, and leaves to others to store, compare and run the specs. All
// functions may be called at any time.
//
// What the keys are, and which values they take, is told once: by the struct
// types in view.go and their tags. The parser, View, Encode and Schema follow
// them.
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

// File is a fleet file that was read and found valid.
type File struct {
	// DefaultServer is the server that bare tool names belong to, as the file
	// names it; "" if it names none. As long as a server is the only one it is
	// the default one anyway.
	DefaultServer fleet.ServerName
	Servers       map[fleet.ServerName]fleet.Spec
	// Warnings are to be shown to whoever gave the file, each once.
	Warnings []Warning
	// Broken are the servers of a client's file that are left out because of
	// an error, sorted. One that is deployed already is meant to stay.
	Broken []fleet.ServerName
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
	// ReadFile reads a file of variables that the fleet file names, as
	// os.ReadFile does. Nil reads none.
	ReadFile func(name string) ([]byte, error)
	// Stat looks at paths that arguments may mean, as os.Stat does. Nil sees
	// none.
	Stat func(name string) (fs.FileInfo, error)
}

// OnDisk returns the options of a fleet file that is a file of this machine.
func OnDisk(filename string, lookup func(string) (string, bool)) Options {
	return Options{Filename: filename, Lookup: lookup, ReadFile: os.ReadFile, Stat: os.Stat}
}

// Parse reads a fleet file. Its error is an Errors, with all that is wrong.
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

// parser collects the errors of one file.
type parser struct {
	opts    Options
	errs    Errors
	literal bool              // a dollar sign is just one, there is no environment and no directory
	body    bool              // the document is one server, not a file of them
	clients bool              // the file is in the form of an MCP client, at least in parts
	foreign bool              // reading an entry in that form
	visited int               // nodes of mappings seen, a bound for merge bombs
	renamed map[string]string // names in a client's file that are no labels
	inputs  map[string]string // defaults of the questions that VS Code asks

	allowed, excluded []string // servers, in the settings of gemini-cli

	// What warnings are made of.
	warnings         []Warning
	broken           []leftOut
	remote           []remoteEntry
	ignored, dropped []named // keys, and options of docker run
	absent           []named // mounts of docker run lines that are not on this machine
	losing           []named // servers that lose data when calls run at once
	renames          []string
}

// remoteEntry is a server of a client's file that is reached over HTTP.
type remoteEntry struct {
	name, path string
	node       *yaml.Node
}

// laterTopKeys are keys of coming versions, told from typing errors.
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
			p.warnf(nil, "", "servers under projects are left out: %s; mcpServers at the top holds those that are taken", strings.Join(names, ", "))
		}
		p.servers(f, foreign, true)
	} else {
		p.checkTopKeys(entries)
		p.servers(f, own, p.allOfVSCode(root))
	}
	p.defaultServer(f, def)
	p.summary(f)
	return f
}

// knownTopKeys are those to propose for a misspelt one.
var knownTopKeys = []string{"default_server", "servers", "mcpServers"}

// checkTopKeys refuses what does not belong at the top. The rest of a client's
// file is the client's own: only what may be a mistyped key is named in a
// warning.
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
	names := map[string]bool{} // those that the file has as they are
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
				why += "; rename it, to " + proposal + " for example"
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
	if _, known := f.Servers[f.DefaultServer]; known || len(p.errs) > 0 {
		return // with errors, the server may just have been left out
	}
	names := make([]string, 0, len(f.Servers))
	for _, n := range f.Names() {
		names = append(names, string(n))
	}
	if p.clients && (len(p.broken) > 0 || len(p.remote) > 0) {
		p.warnf(def.value, def.key, "there is no server named %s, or it is left out", describe(resolve(def.value)))
		f.DefaultServer = ""
		return
	}
	p.errorf(def.value, def.key, "there is no server named %s%s", describe(resolve(def.value)), didYouMean(name, names))
}
