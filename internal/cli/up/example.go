package up

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/cli/shell"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// exampleTools is the tool for the example of a call.
type exampleTools struct {
	path fleet.ServerName // "" for the root
	tool *api.Tool        // nil if no tool is known to be harmless
}

// pickExample picks the server's default tool, or echo.
func pickExample(path fleet.ServerName, servers []api.Server, owner fleet.ServerName, tools []api.Tool) exampleTools {
	e := exampleTools{path: path}
	name := "echo"
	for _, s := range servers {
		var spec struct {
			DefaultTool string `json:"default_tool"`
		}
		if s.Name == owner && json.Unmarshal(s.Spec, &spec) == nil && spec.DefaultTool != "" {
			name = spec.DefaultTool
		}
	}
	if i := slices.IndexFunc(tools, func(t api.Tool) bool { return t.Name == name && t.Server == owner }); i >= 0 {
		e.tool = &tools[i]
	}
	return e
}

// announcement returns the lines that say that the cluster is ready, its
// address, and examples to try.
func announcement(base, called string, s snapshot, example exampleTools) []string {
	lines := []string{"mcpfleet is ready: " + base}
	for _, server := range s.ready.Servers {
		if server.Ready < server.Desired {
			lines = append(lines, fmt.Sprintf("  %s has %d of %d replicas: %s", server.Name, server.Ready, server.Desired, progress.OneLine(server.Reason)))
		}
	}
	if len(s.ready.Servers) == 0 {
		return append(lines, "no server is deployed; deploy some with: "+called+" --address "+strings.TrimPrefix(base, "http://")+" apply -f FILE")
	}
	at := base
	if example.path != "" {
		at += "/" + string(example.path)
	}
	lines = append(lines, "try:", "  curl -s "+at+"/tools")
	if example.tool == nil {
		return lines
	}
	args, ok := sampleArgs(example.tool.InputSchema)
	if !ok {
		return lines
	}
	body, err := json.Marshal(api.CallRequest{ToolName: example.tool.Name, ToolArgs: args})
	if err != nil {
		return lines
	}
	return append(lines, fmt.Sprintf("  curl -s %s/call -H 'Content-Type: application/json' -d %s", at, shell.Quote(string(body))))
}

// schema has the keywords of JSON Schema that sampleArgs uses.
type schema struct {
	Type       any               `json:"type"`
	Enum       []json.RawMessage `json:"enum"`
	Default    json.RawMessage   `json:"default"`
	Minimum    *float64          `json:"minimum"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
}

// sampleArgs makes up arguments for the properties that a tool requires. It
// returns false if it cannot.
func sampleArgs(raw json.RawMessage) (json.RawMessage, bool) {
	var s schema
	if json.Unmarshal(raw, &s) != nil {
		return nil, false
	}
	return s.sample(0)
}

func (s schema) sample(depth int) (json.RawMessage, bool) {
	const deepest = 8
	switch kind, _ := s.Type.(string); {
	case len(s.Enum) > 0:
		return s.Enum[0], true
	case len(s.Default) > 0:
		return s.Default, true
	case kind == "string":
		return json.RawMessage(`"hello"`), true
	case kind == "boolean":
		return json.RawMessage("false"), true
	case kind == "array":
		return json.RawMessage("[]"), true
	case kind == "integer" || kind == "number":
		n := 1.0
		if s.Minimum != nil {
			n = max(n, *s.Minimum)
		}
		return fmt.Appendf(nil, "%g", n), true
	case (kind == "object" || kind == "" && len(s.Properties) > 0) && depth < deepest:
		values := map[string]json.RawMessage{}
		for _, name := range s.Required {
			v, ok := s.Properties[name].sample(depth + 1)
			if !ok {
				return nil, false
			}
			values[name] = v
		}
		b, err := json.Marshal(values)
		return b, err == nil
	}
	return nil, false
}
