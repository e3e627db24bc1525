package fleetfile

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// clientSections are the keys under which clients have their servers. VS Code
// uses servers, as mcpfleet itself does.
var clientSections = []string{"mcpServers", "context_servers"}

// clientSigns are keys that only clients have. An entry of servers with one of
// them is a client's.
var clientSigns = []string{"type", "envFile", "dev", "gallery", "sandbox", "sandboxEnabled", "alwaysAllow", "autoApprove", "disabledTools", "isActive"}

// clientKeys are keys of clients that mcpfleet ignores. Without the list they
// would be reported as mistyped keys.
var clientKeys = []string{
	"alwaysAllow", "auth", "authentication", "authProviderType", "autoApprove", "autostart", "baseUrl", "chatMenu", "configSample", "description", "dev",
	"disabledAutoApproveTools", "dxtPath", "dxtVersion", "exclude_tags", "gallery", "headers", "httpUrl", "icon", "iconPath", "id", "include_tags", "installedAt",
	"installSource", "isTrusted", "keep_alive", "logoUrl", "longRunning", "name", "oauth", "provider", "providerUrl", "reference", "registryUrl", "sandbox",
	"sandboxEnabled", "searchKey", "shouldConfig", "source", "startupTimeout", "tags", "transportType", "trust", "trustedAt", "url", "version", "watchPaths",
}

// ofClients reports whether a file has the form of an MCP client's.
func (p *parser) ofClients(root *yaml.Node) bool {
	if slices.ContainsFunc(clientSections, func(key string) bool { return child(root, key) != nil }) || settingsOf(root) != nil {
		return true
	}
	servers := child(root, "servers")
	return servers != nil && (p.allOfVSCode(root) || slices.ContainsFunc(values(servers), p.ofVSCode))
}

// allOfVSCode reports whether all entries of servers have VS Code's form. That is
// so if the file has inputs, has the name that VS Code and Visual Studio use, or
// has variables that only editors know.
func (p *parser) allOfVSCode(root *yaml.Node) bool {
	file := filepath.Base(p.opts.Filename)
	return child(root, "inputs") != nil || file == "mcp.json" || file == ".mcp.json" || !p.literal && hasEditorVariable(child(root, "servers"), 0)
}

var editorVariable = regexp.MustCompile(`\$\{(env|input):[^-?+}]|\$\{workspaceFolder\}`)

// hasEditorVariable reports whether a text below a node has such a variable.
func hasEditorVariable(n *yaml.Node, depth int) bool {
	if n == nil || depth > maxJSONDepth {
		return false
	}
	if n.Kind == yaml.ScalarNode {
		return editorVariable.MatchString(n.Value)
	}
	return slices.ContainsFunc(n.Content, func(c *yaml.Node) bool { return hasEditorVariable(c, depth+1) })
}

// settingsOf returns the value of mcp.servers, where VS Code's settings have the
// servers, or nil.
func settingsOf(root *yaml.Node) *yaml.Node {
	if mcp := child(root, "mcp"); mcp != nil && child(root, "servers") == nil {
		return child(mcp, "servers")
	}
	return nil
}

// ofVSCode reports whether an entry of servers has VS Code's form, which it does
// if it has a key that only clients have.
func (p *parser) ofVSCode(n *yaml.Node) bool {
	return slices.ContainsFunc(clientSigns, func(key string) bool { return child(n, key) != nil })
}

// child returns the value of a key, or nil.
func child(n *yaml.Node, key string) *yaml.Node {
	n = resolve(n)
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if resolve(n.Content[i]).Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// values returns the values of a mapping.
func values(n *yaml.Node) []*yaml.Node {
	n = resolve(n)
	var out []*yaml.Node
	for i := 1; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		out = append(out, n.Content[i])
	}
	return out
}

// readInputs collects the default values of VS Code's inputs. The node is nil if
// there are none.
func (p *parser) readInputs(n *yaml.Node) {
	if n == nil {
		return
	}
	n = resolve(n)
	for i := 0; n.Kind == yaml.SequenceNode && i < len(n.Content); i++ {
		id, value := child(n.Content[i], "id"), child(n.Content[i], "default")
		if id != nil && value != nil && resolve(value).Kind == yaml.ScalarNode && !isNull(value) {
			p.inputs[resolve(id).Value] = resolve(value).Value
		}
	}
}

// expandEditor returns the value of a variable that only editors know. It returns
// false for other variables.
func (p *parser) expandEditor(body string) (string, bool, error) {
	dir := p.workspaceFolder()
	if id, ok := strings.CutPrefix(body, "input:"); ok && (id == "" || !strings.ContainsAny(id[:1], "-?+")) {
		if value, given := p.inputs[id]; given {
			return value, true, nil
		}
		return "", true, fmt.Errorf("${%s} asks the user of an editor, and there is no editor here: use an environment variable instead", body)
	}
	switch kind, _, _ := strings.Cut(body, ":"); kind {
	case "command", "config":
		if strings.Contains(body, ":") {
			return "", true, fmt.Errorf("${%s} needs an editor, and there is no editor here: write the value, or use an environment variable", body)
		}
	}
	switch body {
	case "workspaceFolder", "workspaceRoot":
		return dir, true, nil
	case "workspaceFolderBasename":
		return filepath.Base(dir), true, nil
	case "userHome":
		if home, ok := p.opts.Lookup("HOME"); ok {
			return home, true, nil
		}
		return "", true, missing("HOME")
	case "pathSeparator", "/":
		return string(filepath.Separator), true, nil
	}
	return "", false, nil
}

// withValue returns the entries that are not null. In a client's file, null means
// that the key is not set.
func withValue(entries []entry) []entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return isNull(e.value) })
}

// projectServers returns the names of the servers that Claude Code has under
// single projects.
func projectServers(root *yaml.Node) (names []string) {
	projects := child(root, "projects")
	if projects == nil {
		return nil
	}
	for _, project := range values(projects) {
		servers := child(project, "mcpServers")
		if servers == nil || resolve(servers).Kind != yaml.MappingNode {
			continue
		}
		for i, n := range resolve(servers).Content {
			if name := resolve(n).Value; i%2 == 0 && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// readSwitches reads which servers the settings of gemini-cli switch off: those
// in mcp.excluded, and if mcp.allowed is not empty, all that are not in it.
func (p *parser) readSwitches(root *yaml.Node) {
	mcp := child(root, "mcp")
	if mcp == nil {
		return
	}
	names := func(key string) (all []string) {
		list := child(mcp, key)
		if list == nil || resolve(list).Kind != yaml.SequenceNode {
			return nil
		}
		for _, n := range resolve(list).Content {
			all = append(all, resolve(n).Value)
		}
		return all
	}
	p.allowed, p.excluded = names("allowed"), names("excluded")
}

// switchedOff reports whether the settings in the file switch a server off.
func (p *parser) switchedOff(name string) bool {
	return slices.Contains(p.excluded, name) || len(p.allowed) > 0 && !slices.Contains(p.allowed, name)
}

// wholeVariable matches a value that gemini-cli and Copilot CLI take for a
// variable. Other clients take it literally, but that is hardly ever meant.
var wholeVariable = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z0-9_]*)$`)

// wholeVariables replaces the values of env that consist of one variable without
// braces, if the variable exists.
func (d *serverDecoder) wholeVariables(n *yaml.Node, at string, env map[string]string) {
	m := resolve(n)
	for i := 0; m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
		name, value := resolve(m.Content[i]).Value, resolve(m.Content[i+1])
		found := wholeVariable.FindStringSubmatch(value.Value)
		if value.Kind != yaml.ScalarNode || found == nil || env[name] != value.Value {
			continue
		}
		if v, set := d.opts.Lookup(found[1]); set && badText(v) == "" {
			env[name] = v
		} else {
			d.warnf(value, join(at, name), "looks like a variable that the environment does not have; it is taken as it is")
		}
	}
}

// off reports whether the server is switched off in the client.
func (d *serverDecoder) off() bool {
	for _, key := range []string{"disabled", "isActive", "enabled"} {
		n, given := d.given[key]
		if !given {
			continue
		}
		if v, ok := d.boolean(n, join(d.path, key)); ok && v == (key == "disabled") {
			return true
		}
	}
	return false
}

// remoteKinds are the words by which clients mark remote servers.
var remoteKinds = []string{"http", "https", "sse", "streamable-http", "streamableHttp", "streamable_http", "http-stream", "remote", "ws", "websocket"}

// isRemote reports whether the entry is a server to reach over HTTP, itself or
// through mcpfleet connect. A fleet that ran the latter would be a client of
// itself.
func (d *serverDecoder) isRemote() bool {
	if d.isConnect() {
		return true
	}
	for _, key := range []string{"type", "transport", "transportType"} {
		if n, given := d.given[key]; given && slices.ContainsFunc(remoteKinds, func(kind string) bool { return strings.EqualFold(kind, resolve(n).Value) }) {
			return true
		}
	}
	for _, key := range []string{"command", "image"} {
		if n, given := d.given[key]; given && !meansNothing(n) {
			return false
		}
	}
	for _, key := range []string{"url", "serverUrl", "httpUrl", "baseUrl", "http"} {
		if n, given := d.given[key]; given && !meansNothing(n) {
			return true
		}
	}
	return false
}

// isConnect reports whether the entry runs mcpfleet connect.
func (d *serverDecoder) isConnect() bool {
	command, args := d.given["command"], d.given["args"]
	if command == nil || args == nil || resolve(args).Kind != yaml.SequenceNode || len(resolve(args).Content) == 0 {
		return false
	}
	program := filepath.Base(strings.ReplaceAll(resolve(command).Value, `\`, "/"))
	return strings.TrimSuffix(program, ".exe") == "mcpfleet" && resolve(resolve(args).Content[0]).Value == "connect"
}

// meansNothing reports whether a value is null, false or empty.
func meansNothing(n *yaml.Node) bool {
	n = resolve(n)
	switch n.Kind {
	case yaml.ScalarNode:
		return isNull(n) || n.Value == "" || n.ShortTag() == "!!bool" && n.Value == "false"
	case yaml.MappingNode, yaml.SequenceNode:
		return len(n.Content) == 0
	}
	return false
}

// commandMapping splits a command that is a mapping with arguments and
// environment, as in older files of Zed.
func (d *serverDecoder) commandMapping(entries []entry) []entry {
	n, given := d.given["command"]
	if !given || child(n, "path") == nil {
		return entries
	}
	out := slices.DeleteFunc(slices.Clone(entries), func(e entry) bool { return e.key == "command" })
	parts, _ := d.mapping(n, join(d.path, "command"))
	for _, e := range withValue(parts) {
		if e.key == "path" {
			e.key = "command"
		}
		d.given[e.key] = e.value
		out = append(out, e)
	}
	return out
}

// clientKey decodes a key that only clients have. A key that means nothing here
// is reported in a warning.
func (d *serverDecoder) clientKey(e entry) {
	n, at := e.value, join(d.path, e.key)
	switch e.key {
	case "type", "transport", "transportType":
		d.transport(e, at)
	case "disabled", "isActive", "enabled": // see off
	case "envFile":
		d.readEnvFile(n, at)
	case "timeout":
		d.clientTimeout(e, at)
	case "disabledTools", "excludeTools":
		d.toolNames(n, at, &d.spec.DisabledTools)
	case "includeTools":
		d.clientTools(n, at)
	default:
		d.ignore(e)
	}
}

// ignore adds a key to the warning about keys that mean nothing here.
func (d *serverDecoder) ignore(e entry) {
	if meansNothing(e.value) {
		return
	}
	key := e.key
	if !slices.Contains(clientKeys, e.key) && !clientShape.has(e.key) {
		if hint := didYouMean(e.key, clientShape.order); hint != "" {
			key += strings.Replace(hint, "; did", ", did", 1)
		}
	}
	d.ignored = addNamed(d.ignored, key, d.shown)
}

// serverKinds are the words by which clients mark stdio servers. A server with a
// command is one, whatever the word is.
var serverKinds = []string{"stdio", "local", "custom", "command"}

// transport decodes the keys by which clients distinguish stdio from HTTP. See
// isRemote for the latter.
func (d *serverDecoder) transport(e entry, at string) {
	if meansNothing(e.value) {
		return
	}
	if kind, ok := d.str(e.value, at); ok && !slices.Contains(serverKinds, strings.ToLower(kind)) {
		d.ignore(e)
	}
}

// maxSeconds is the longest timeout that clients with seconds allow. A larger
// number is in milliseconds.
const maxSeconds = 3600

// clientTimeout decodes a client's timeout for calls, in seconds or
// milliseconds.
func (d *serverDecoder) clientTimeout(e entry, at string) {
	if _, ours := d.given["call_timeout"]; ours || meansNothing(e.value) {
		return
	}
	value, err := strconv.ParseFloat(resolve(e.value).Value, 64)
	unit := time.Second
	if value > maxSeconds {
		unit = time.Millisecond
	}
	k := serverShape.keys["call_timeout"]
	timeout := value * float64(unit)
	if err != nil || !(timeout >= float64(k.low) && timeout <= float64(k.high)) {
		d.ignore(e)
		return
	}
	d.spec.CallTimeout = time.Duration(timeout)
}

// clientTools decodes the list of the only tools that a client uses. "*" stands
// for all.
func (d *serverDecoder) clientTools(n *yaml.Node, at string) {
	r := resolve(n)
	if r.Kind == yaml.ScalarNode && r.Value == "*" {
		return
	}
	var names []string
	if !d.toolNames(n, at, &names) || slices.Contains(names, "*") {
		return
	}
	if len(names) == 0 {
		d.errorf(n, at, "is empty, so the client would use none of its tools")
		return
	}
	d.spec.EnabledTools = append(d.spec.EnabledTools, names...)
}
