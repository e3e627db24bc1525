package mcp

import "fmt"

// targetMember returns the member of params that says what a request is about, "" for methods without
// one. For completion/complete it is inside ref.
func targetMember(method string, params []byte) (within, name string) {
	switch method {
	case MethodToolsCall, MethodPromptsGet:
		return "", "name"
	case MethodResourcesRead, MethodSubscribe, MethodUnsubscribe, MethodResourcesUpdated:
		return "", "uri"
	case MethodTaskGet, MethodTaskUpdate, MethodTaskCancel, MethodTaskResult, MethodTaskStatus:
		return "", "taskId"
	case MethodComplete:
		if ref, err := Fields(params, "ref"); err == nil && given(ref[0]) {
			kind, err := Fields(ref[0], "type")
			if err == nil && text(kind[0]) == "ref/resource" {
				return "ref", "uri"
			}
		}
		return "ref", "name"
	}
	return "", ""
}

// Target returns what a request or notification is about: the name of a tool or a prompt, the URI of a
// resource, the id of a task. has is false if messages of the method name nothing. Params without the
// name, or with one that is not a string, are an error, whose text is for the client. So is a name that
// is repeated: its server might take another one than we do, and so run what we did not allow.
func Target(method string, params []byte) (target string, has bool, err error) {
	within, name := targetMember(method, params)
	if name == "" {
		return "", false, nil
	}
	path := name
	if within != "" {
		path = within + "." + name
		if params, err = once(params, within, within); err != nil {
			return "", true, err
		}
	}
	value, err := once(params, name, path)
	if err != nil {
		return "", true, err
	}
	if TypeOf(value) != "string" {
		return "", true, fmt.Errorf("%s %w", path, &TypeError{Want: "string", Got: TypeOf(value)})
	}
	return text(value), true, nil
}

// URIParams returns params that name a resource.
func URIParams(uri string) []byte { return append(AppendString([]byte(`{"uri":`), uri), '}') }

// once returns the value of a member that an object must have once. path is its name in errors.
func once(raw []byte, name, path string) (value []byte, err error) {
	count := 0
	if !noParams(raw) {
		if err := Members(raw, func(key, v []byte) bool {
			if string(key) == name {
				value = v
				count++
			}
			return true
		}); err != nil {
			return nil, fmt.Errorf("params: %w", err)
		}
	}
	switch count {
	case 0:
		return nil, fmt.Errorf("params lack %q", path)
	case 1:
		return value, nil
	}
	return nil, fmt.Errorf("params repeat %q", path)
}

// WithTarget returns params with another target. Messages of the method must name one.
func WithTarget(method string, params []byte, target string) ([]byte, error) {
	within, name := targetMember(method, params)
	change := Set(name, AppendString(nil, target))
	if within != "" {
		change = Within(within, change)
	}
	return Edit(params, change)
}

// IsResourceRef reports whether the target of completion/complete is a resource, not a prompt.
func IsResourceRef(params []byte) bool {
	_, name := targetMember(MethodComplete, params)
	return name == "uri"
}

// Cursor returns the cursor of a list request, "" if it asks for the first page. A cursor that is not a
// string is a *TypeError.
func Cursor(params []byte) (string, error) {
	found, err := paramFields(params, "cursor")
	if err != nil || !given(found[0]) {
		return "", err
	}
	cursor, err := String(found[0])
	if err != nil {
		return "", fmt.Errorf("cursor: %w", err)
	}
	return cursor, nil
}
