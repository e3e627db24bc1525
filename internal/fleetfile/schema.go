package fleetfile

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/mcpfleet/mcpfleet/internal/expect"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Schema returns the JSON Schema of fleet files, indented, for editors. It
// accepts and refuses the same files as Parse, as far as a schema can: it does
// not know the values of variables, cannot compare two values, and does not
// understand units. Parse decides.
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
		panic("fleetfile: the schema does not encode: " + err.Error()) // cannot happen: it is constant
	}
	return append(indented.Bytes(), '\n')
}

// definitionName returns the name of a type in $defs.
func definitionName(t reflect.Type) string {
	if t == reflect.TypeFor[clientServer]() {
		return "client_server"
	}
	return strings.ToLower(strings.TrimSuffix(t.Name(), "View"))
}

// JSONSchemaExtend completes the reflected schema of the whole file.
func (document) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, documentShape, nil)
	// Other keys of a file in a client's form belong to the client.
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
	// A server with a type has VS Code's form.
	servers.AdditionalProperties = &jsonschema.Schema{
		Type: "object",
		If:   &jsonschema.Schema{Required: []string{"type"}}, Then: client, Else: server,
	}
	names := make([]any, 0, len(reserved))
	for _, name := range reserved {
		names = append(names, name)
	}
	gateways, _ := s.Properties.Get("gateways")
	gateways.PropertyNames = &jsonschema.Schema{Pattern: dnsLabel.String(), MaxLength: new(uint64(maxName))}
	servers.PropertyNames = &jsonschema.Schema{Pattern: dnsLabel.String(), MaxLength: new(uint64(maxName)), Not: &jsonschema.Schema{Enum: names}}
}

// JSONSchemaExtend completes the reflected schema of a server.
func (ServerView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, serverShape, serverDefaults())
	s.AllOf = append(imageOrCommand(present), absoluteInImage(present), fixedOrAutomatic(present), sessionsOrReplicas(present))
}

// fixedOrAutomatic returns the condition that a server with autoscaling has no fixed
// number of replicas.
func fixedOrAutomatic(given func(key string) *jsonschema.Schema) *jsonschema.Schema {
	auto := jsonschema.NewProperties()
	auto.Set("replicas", &jsonschema.Schema{Type: "string", Pattern: `^auto$|\$`})
	return &jsonschema.Schema{
		If:   &jsonschema.Schema{AllOf: []*jsonschema.Schema{given("autoscaling"), given("replicas")}},
		Then: &jsonschema.Schema{Properties: auto},
	}
}

// JSONSchemaExtend completes the reflected schema of a client's server.
func (clientServer) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, clientShape, nil)
	s.AdditionalProperties = nil // other keys belong to the client
	// In a client's file this is the program's path, which may have spaces.
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
	on.AllOf = append(imageOrCommand(notNull), absoluteInImage(notNull), fixedOrAutomatic(notNull), sessionsOrReplicas(notNull))
	*s = jsonschema.Schema{
		Type: "object",
		If:   &jsonschema.Schema{Required: []string{"disabled"}, Properties: off},
		Then: jsonschema.TrueSchema,
		Else: &on,
	}
}

// JSONSchemaExtend completes the reflected schema of a mount.
func (MountView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, mountShape, nil) }

// JSONSchemaExtend completes the reflected schema of resources.
func (ResourcesView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, resourcesShape, nil) }

// JSONSchemaExtend completes the reflected schema of autoscaling.
func (AutoscalingView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, autoscalingShape, defaultsOf(autoscalingView(new(fleet.DefaultAutoscaling()))))
}

// JSONSchemaExtend completes the reflected schema of a schedule.
func (ScheduleView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, scheduleShape, nil)
	s.AnyOf = []*jsonschema.Schema{present("min_replicas"), present("max_replicas")}
}

// JSONSchemaExtend completes the reflected schema of the update policy.
func (UpdateView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, updateShape, defaultsOf(updateView(fleet.DefaultUpdate())))
}

// JSONSchemaExtend completes the reflected schema of a call that checks a new
// revision.
func (VerifyView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, verifyShape, map[string]any{"args": map[string]any{}, "expect": expect.OK})
}

// JSONSchemaExtend completes the reflected schema of a canary.
func (CanaryView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, canaryShape, map[string]any{"hold": fleet.DefaultCanaryHold.String(), "gate": fleet.GateAuto})
}

// JSONSchemaExtend completes the reflected schema of the choice of tools.
func (ToolsView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, toolsShape, nil) }

// JSONSchemaExtend completes the reflected schema of how one tool is shown.
func (ToolOverrideView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, overrideShape, nil) }

// JSONSchemaExtend completes the reflected schema of annotations.
func (ToolAnnotationsView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, annotationsShape, nil) }

// JSONSchemaExtend completes the reflected schema of a gateway.
func (GatewayView) JSONSchemaExtend(s *jsonschema.Schema) { complete(s, gatewayShape, nil) }

// JSONSchemaExtend completes the reflected schema of health checks.
func (HealthView) JSONSchemaExtend(s *jsonschema.Schema) {
	complete(s, healthShape, defaultsOf(viewOf(new(defaults())).Health))
}

// complete sets the form and the default of each property.
func complete(s *jsonschema.Schema, known shape, defaults map[string]any) {
	for _, key := range known.order {
		reflected, ok := s.Properties.Get(key)
		if !ok {
			panic("fleetfile: no property " + key + " in the schema") // cannot happen: both come from the same types
		}
		form := known.keys[key].form(reflected)
		form.Description = reflected.Description
		form.Default = defaults[key]
		s.Properties.Set(key, form)
	}
}

// serverDefaults returns the values that the parser fills in for missing keys of
// a server.
func serverDefaults() map[string]any {
	d := &serverDecoder{parser: newParser(Options{}), spec: defaults()}
	d.spec.Image = "x"
	d.finish()
	all := defaultsOf(viewOf(&d.spec))
	delete(all, "image")
	delete(all, "health") // the keys of sections have their own defaults
	delete(all, "update")
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
		panic("fleetfile: a view does not encode: " + err.Error()) // cannot happen: it is plain data
	}
	return all
}

// present returns the condition that a key is present.
func present(key string) *jsonschema.Schema { return &jsonschema.Schema{Required: []string{key}} }

// notNull returns the condition that a key is present and not null. In a client's
// file only such a key counts.
func notNull(key string) *jsonschema.Schema {
	keys := jsonschema.NewProperties()
	keys.Set(key, &jsonschema.Schema{Not: &jsonschema.Schema{Type: "null"}})
	return &jsonschema.Schema{Required: []string{key}, Properties: keys}
}

// orNull allows null as well, and keeps the description of the key.
func orNull(form *jsonschema.Schema) *jsonschema.Schema {
	out := anyOf(form, &jsonschema.Schema{Type: "null"})
	out.Description, form.Description = form.Description, ""
	return out
}

// imageOrCommand returns the conditions that a server has either an image or a
// command, and no key that needs the other. given returns the condition under
// which a key counts.
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

// runsContainer returns the condition that a command becomes an image: it is
// docker or podman, and the arguments begin with run. A variable may be either.
func runsContainer() *jsonschema.Schema {
	word := &jsonschema.Schema{Type: "string", Pattern: `(^|[/\\])(docker|podman)(\.exe)?$|\$`}
	one := new(uint64(1))
	keys := jsonschema.NewProperties()
	keys.Set("command", &jsonschema.Schema{AnyOf: []*jsonschema.Schema{word, {Type: "array", PrefixItems: []*jsonschema.Schema{word}, MinItems: one, MaxItems: one}}})
	keys.Set("args", &jsonschema.Schema{Type: "array", PrefixItems: []*jsonschema.Schema{{Type: "string", Pattern: `^run$|\$`}}, MinItems: one})
	return &jsonschema.Schema{Required: []string{"command", "args"}, Properties: keys}
}

// absoluteInImage returns the condition that cwd is absolute next to an image.
func absoluteInImage(given func(key string) *jsonschema.Schema) *jsonschema.Schema {
	cwd := jsonschema.NewProperties()
	cwd.Set("cwd", &jsonschema.Schema{Pattern: `^/|\$`})
	return &jsonschema.Schema{If: given("image"), Then: &jsonschema.Schema{Properties: cwd}}
}
