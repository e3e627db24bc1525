package mcp

import (
	"errors"
	"fmt"
	"slices"
)

// TasksExtension is the name of the extension of tasks among the capabilities of the modern era.
const TasksExtension = "io.modelcontextprotocol/tasks"

// Filter says which notifications a subscription gets.
type Filter struct {
	ToolsListChanged     bool
	PromptsListChanged   bool
	ResourcesListChanged bool
	Resources            []string // URIs, each once
	Tasks                []string // ids, of the tasks extension
}

// ParseListen reads the filter in the params of subscriptions/listen. The text of an error is for the
// client.
func ParseListen(params []byte) (Filter, error) {
	members, err := paramFields(params, "notifications")
	if err != nil {
		return Filter{}, err
	}
	return ParseFilter(members[0])
}

// ParseFilter reads a raw filter, as requests and acknowledgements have it.
func ParseFilter(raw []byte) (Filter, error) {
	var f Filter
	if !given(raw) {
		return f, errors.New(`params lack "notifications"`)
	}
	var wrong error
	err := Members(raw, func(key, value []byte) bool {
		if IsNull(value) {
			return true
		}
		switch string(key) {
		case "toolsListChanged":
			f.ToolsListChanged, wrong = boolean(value)
		case "promptsListChanged":
			f.PromptsListChanged, wrong = boolean(value)
		case "resourcesListChanged":
			f.ResourcesListChanged, wrong = boolean(value)
		case "resourceSubscriptions":
			f.Resources, wrong = texts(value)
		case "taskIds":
			f.Tasks, wrong = texts(value)
		}
		if wrong != nil {
			wrong = fmt.Errorf("%s %w", key, wrong)
		}
		return wrong == nil
	})
	if err = errors.Join(err, wrong); err != nil {
		return Filter{}, fmt.Errorf("notifications: %w", err)
	}
	return f, nil
}

func boolean(raw []byte) (bool, error) {
	if t := TypeOf(raw); t != "boolean" {
		return false, &TypeError{Want: "boolean", Got: t}
	}
	return string(raw) == "true", nil
}

// texts returns the strings of a raw array, each once.
func texts(raw []byte) ([]string, error) {
	var (
		all   []string
		seen  = map[string]bool{}
		wrong error
	)
	err := Elements(raw, func(value []byte) bool {
		if t := TypeOf(value); t != "string" {
			wrong = fmt.Errorf("has an element that %w", &TypeError{Want: "string", Got: t})
			return false
		}
		if one := text(value); !seen[one] {
			seen[one] = true
			all = append(all, one)
		}
		return true
	})
	return all, errors.Join(err, wrong)
}

// Empty reports whether the filter lets nothing through.
func (f *Filter) Empty() bool {
	return !f.ToolsListChanged && !f.PromptsListChanged && !f.ResourcesListChanged && len(f.Resources) == 0 && len(f.Tasks) == 0
}

// Honoured returns the part of the filter that a server with those raw capabilities can honour.
func (f *Filter) Honoured(capabilities []byte) Filter {
	h := Filter{
		ToolsListChanged:     f.ToolsListChanged && promises(capabilities, "tools", "listChanged"),
		PromptsListChanged:   f.PromptsListChanged && promises(capabilities, "prompts", "listChanged"),
		ResourcesListChanged: f.ResourcesListChanged && promises(capabilities, "resources", "listChanged"),
	}
	if promises(capabilities, "resources", "subscribe") {
		h.Resources = slices.Clone(f.Resources)
	}
	if extensions, err := Fields(capabilities, "extensions"); err == nil && TypeOf(extensions[0]) == "object" {
		if tasks, err := Fields(extensions[0], TasksExtension); err == nil && given(tasks[0]) {
			h.Tasks = slices.Clone(f.Tasks)
		}
	}
	return h
}

// promises reports whether a capability's member is true.
func promises(capabilities []byte, capability, member string) bool {
	found, err := Fields(capabilities, capability)
	if err != nil || TypeOf(found[0]) != "object" {
		return false
	}
	value, err := Fields(found[0], member)
	return err == nil && string(value[0]) == "true"
}

// Append appends the filter.
func (f *Filter) Append(dst []byte) []byte {
	dst = append(dst, '{')
	empty := len(dst)
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"toolsListChanged", f.ToolsListChanged},
		{"promptsListChanged", f.PromptsListChanged},
		{"resourcesListChanged", f.ResourcesListChanged},
	} {
		if flag.set {
			dst = append(AppendString(separate(dst, empty), flag.name), `:true`...)
		}
	}
	if len(f.Resources) > 0 {
		dst = appendStrings(append(separate(dst, empty), `"resourceSubscriptions":`...), f.Resources)
	}
	if len(f.Tasks) > 0 {
		dst = appendStrings(append(separate(dst, empty), `"taskIds":`...), f.Tasks)
	}
	return append(dst, '}')
}

func separate(dst []byte, empty int) []byte {
	if len(dst) > empty {
		return append(dst, ',')
	}
	return dst
}

// ListenParams returns the params of a subscriptions/listen of our own. For tasks it declares the
// tasks extension.
func ListenParams(version string, client Implementation, f *Filter) ([]byte, error) {
	c := Client{Info: client.append(nil)}
	if len(f.Tasks) > 0 {
		c.Capabilities = []byte(tasksDeclared)
	}
	return ParamsToModern(append(f.Append([]byte(`{"notifications":`)), '}'), version, c)
}

// tasksDeclared are the raw capabilities of a client that has nothing but the tasks extension.
const tasksDeclared = `{"extensions":{"` + TasksExtension + `":{}}}`

// CancelTaskParams returns the params of a tasks/cancel of our own, of the extension. client is raw JSON.
func CancelTaskParams(version string, client []byte, id string) ([]byte, error) {
	params := append(AppendString([]byte(`{"taskId":`), id), '}')
	return ParamsToModern(params, version, Client{Info: client, Capabilities: []byte(tasksDeclared)})
}

// AcknowledgedParams returns the params of the notification that a subscription begins with. id is the
// raw id of the request that asked for it.
func AcknowledgedParams(id []byte, honoured *Filter) []byte {
	p := append(append([]byte(`{"_meta":{"`+MetaSubscriptionID+`":`), id...), `},"notifications":`...)
	return append(honoured.Append(p), '}')
}

// ListenResult returns the result that ends a subscription in good order.
func ListenResult(id []byte) []byte {
	return append(append([]byte(`{"resultType":"`+ResultComplete+`","_meta":{"`+MetaSubscriptionID+`":`), id...), `}}`...)
}

// WithSubscription returns the params of a notification that belongs to a subscription. id is the raw
// id of the request that asked for it.
func WithSubscription(params, id []byte) ([]byte, error) {
	return Edit(params, InMeta(Set(MetaSubscriptionID, id)))
}

// WithoutSubscription returns the params of a notification for a legacy client.
func WithoutSubscription(params []byte) ([]byte, error) {
	return Edit(params, InMeta(Remove(MetaSubscriptionID)))
}
