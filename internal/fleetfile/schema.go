package fleetfile

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// Schema returns the JSON Schema of fleet files, indented. It accepts what
// Parse accepts and refuses what it refuses, as far as a schema can tell: it
// does not know the values of variables, compares no two values, and reads no
// units. It is for editors; Parse has the last word.
func Schema() []byte {
	r := jsonschema.Reflector{
		Anonymous:                  true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
		Namer:                      definitionName,
	}
	s := r.Reflect(&document{})
	s.Title = "mcpfleet fleet file"
	s.Description = "The MCP servers that a fleet runs. ${VAR} and $VAR stand for variables of the environment, $$ for a dollar sign."
	out, err := json.Marshal(s)
	var indented bytes.Buffer
	if err == nil {
		err = json.Indent(&indented, out, "", "  ")
	}
	if err != nil {
		panic("fleetfile: the schema does not encode: " + err.Error()) // it is a constant
	}
	return append(indented.Bytes(), '\n')
}

// definitionName is what a type is called in $defs.
func definitionName(t reflect.Type) string {
	if t == reflect.TypeFor[clientServer]() {
		return "client_server"
	}
	return strings.ToLower(strings.TrimSuffix(t.Name(), "View"))
}

// JSONSchemaExtend completes what reflection told of the file as a whole.
func (document) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, documentShape, nil)
	// The rest of a file in the clients' form belongs to the client.
	own := make([]any, 0, len(documentShape.order))
	for _, key := range documentShape.order {
		if key != "mcpServers" {
			own = append(own, key)
		}
	}
	s.AdditionalProperties = nil
	s.If = &jsonschema.Schema{Required: []string{"mcpServers"}}
	s.Then = &jsonschema.Schema{Not: &jsonschema.Schema{Required: []string{"servers"}}}
	s.Else = &jsonschema.Schema{Required: []string{"servers"}, PropertyNames: &jsonschema.Schema{Enum: own}}

	servers, _ := s.Properties.Get("servers")
	server := servers.AdditionalProperties
	clients, _ := s.Properties.Get("mcpServers")
	client := clients.AdditionalProperties
	// A server with a type is in the form of VS Code.
	servers.AdditionalProperties = &jsonschema.Schema{
		Type: "object",
		If:   &jsonschema.Schema{Required: []string{"type"}}, Then: client, Else: server,
	}
	names := make([]any, 0, len(reserved))
	for _, name := range reserved {
		names = append(names, name)
	}
	servers.PropertyNames = &jsonschema.Schema{Pattern: dnsLabel.String(), MaxLength: new(uint64(maxName)), Not: &jsonschema.Schema{Enum: names}}
}

// JSONSchemaExtend completes what reflection told of a server.
func (ServerView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, serverShape, serverDefaults())
	s.AllOf = append(imageOrCommand(present), absoluteInImage(present))
}

// JSONSchemaExtend completes what reflection told of a client's server.
func (clientServer) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, clientShape, nil)
	s.AdditionalProperties = nil // keys of the client's own
	// Clients have the program's path here, spaces and all.
	for _, key := range []string{"command", "entrypoint"} {
		p, _ := s.Properties.Get(key)
		p.AnyOf[0] = &jsonschema.Schema{Type: "string", MinLength: new(uint64(1))}
	}
	for _, key := range clientShape.order {
		if form, _ := s.Properties.Get(key); clientShape.keys[key].kind != kindIgnored {
			s.Properties.Set(key, orNull(form))
		}
	}
	on := *s
	off := jsonschema.NewProperties()
	off.Set("disabled", &jsonschema.Schema{Enum: []any{true, "true", "True", "TRUE"}})
	on.AllOf = append(imageOrCommand(notNull), absoluteInImage(notNull))
	*s = jsonschema.Schema{
		Type: "object",
		If:   &jsonschema.Schema{Required: []string{"disabled"}, Properties: off},
		Then: jsonschema.TrueSchema,
		Else: &on,
	}
}

// JSONSchemaExtend completes what reflection told of a mount.
func (MountView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, mountShape, nil) }

// JSONSchemaExtend completes what reflection told of resources.
func (ResourcesView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, resourcesShape, nil) }

// JSONSchemaExtend completes what reflection told of pings.
func (HealthView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, healthShape, defaultsOf(viewOf(new(defaults())).Health))
}

// complete gives each property the form of its kind, and its default.
func complete(s *jsonschema.Schema, known shape, defaults map[string]any) {
	for _, key := range known.order {
		reflected, ok := s.Properties.Get(key)
		if !ok {
			panic("fleetfile: no property " + key + " in the schema") // one set of types makes both
		}
		form := known.keys[key].form(reflected)
		form.Description = reflected.Description
		form.Default = defaults[key]
		s.Properties.Set(key, form)
	}
}

// serverDefaults are the values that keys of a server have when they are not
// there, as the parser fills them in.
func serverDefaults() map[string]any {
	d := &serverDecoder{parser: newParser(Options{}), spec: defaults()}
	d.spec.Image = "x"
	d.finish()
	all := defaultsOf(viewOf(&d.spec))
	delete(all, "image")
	delete(all, "health") // its keys have their own
	all["read_only"] = d.spec.ReadOnly
	all["no_new_privileges"] = !d.spec.NewPrivileges
	return all
}

// defaultsOf returns a view's values by key.
func defaultsOf(view any) map[string]any {
	data, err := json.Marshal(view)
	all := map[string]any{}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		panic("fleetfile: a view does not encode: " + err.Error()) // plain data only
	}
	return all
}

// present is the condition that a key is there.
func present(key string) *jsonschema.Schema { return &jsonschema.Schema{Required: []string{key}} }

// notNull is the condition that a key is there and not null, which is how it
// counts in the file of a client.
func notNull(key string) *jsonschema.Schema {
	keys := jsonschema.NewProperties()
	keys.Set(key, &jsonschema.Schema{Not: &jsonschema.Schema{Type: "null"}})
	return &jsonschema.Schema{Required: []string{key}, Properties: keys}
}

// orNull allows null as well, and keeps what is told of the key.
func orNull(form *jsonschema.Schema) *jsonschema.Schema {
	out := anyOf(form, &jsonschema.Schema{Type: "null"})
	out.Description, form.Description = form.Description, ""
	return out
}

// imageOrCommand is what the keys of a server exclude and demand. The function
// given is the condition under which a key counts.
func imageOrCommand(given func(key string) *jsonschema.Schema) []*jsonschema.Schema {
	var forbidden []*jsonschema.Schema
	for _, key := range serverShape.order {
		if serverShape.keys[key].forImages() {
			forbidden = append(forbidden, given(key))
		}
	}
	return []*jsonschema.Schema{
		{OneOf: []*jsonschema.Schema{given("image"), given("command")}},
		{
			If:   &jsonschema.Schema{AllOf: []*jsonschema.Schema{given("command"), {Not: runsContainer()}}},
			Then: &jsonschema.Schema{Not: &jsonschema.Schema{AnyOf: forbidden}},
		},
	}
}

// runsContainer is a command that becomes an image: docker, with arguments
// that begin with run. A variable may become anything.
func runsContainer() *jsonschema.Schema {
	word := &jsonschema.Schema{Type: "string", Pattern: `(^|[/\\])(docker|podman)(\.exe)?$|\$`}
	one := new(uint64(1))
	keys := jsonschema.NewProperties()
	keys.Set("command", &jsonschema.Schema{AnyOf: []*jsonschema.Schema{word, {Type: "array", PrefixItems: []*jsonschema.Schema{word}, MinItems: one, MaxItems: one}}})
	keys.Set("args", &jsonschema.Schema{Type: "array", PrefixItems: []*jsonschema.Schema{{Type: "string", Pattern: `^run$|\$`}}, MinItems: one})
	return &jsonschema.Schema{Required: []string{"command", "args"}, Properties: keys}
}

// absoluteInImage is what cwd must be next to an image.
func absoluteInImage(given func(key string) *jsonschema.Schema) *jsonschema.Schema {
	cwd := jsonschema.NewProperties()
	cwd.Set("cwd", &jsonschema.Schema{Pattern: `^/|\$`})
	return &jsonschema.Schema{If: given("image"), Then: &jsonschema.Schema{Properties: cwd}}
}
