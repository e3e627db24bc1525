package mcp

import "strings"

// Capability is a path into a client's capabilities, such as "elicitation.url".
type Capability string

// The capabilities that requests to a client need.
const (
	CapabilityElicitForm    Capability = "elicitation.form"
	CapabilityElicitURL     Capability = "elicitation.url"
	CapabilitySampling      Capability = "sampling"
	CapabilitySamplingTools Capability = "sampling.tools"
	CapabilityRoots         Capability = "roots"
)

// Needs returns the capability that a client must have declared to be sent a request, "" for a method
// that needs none or is unknown. A sampling request that wants other servers' context needs none for
// it: the specification lets the client ignore the wish.
func Needs(method string, params []byte) Capability {
	switch method {
	case MethodElicit:
		if mode, err := Fields(params, "mode"); err == nil && text(mode[0]) == "url" {
			return CapabilityElicitURL
		}
		return CapabilityElicitForm
	case MethodCreateMessage:
		tools, err := Fields(params, "tools", "toolChoice")
		if err == nil && (given(tools[0]) || given(tools[1])) {
			return CapabilitySamplingTools
		}
		return CapabilitySampling
	case MethodRootsList:
		return CapabilityRoots
	}
	return ""
}

// Declares reports whether raw client capabilities have one. An elicitation without modes is its form
// mode.
func Declares(capabilities []byte, c Capability) bool {
	parent, child, nested := strings.Cut(string(c), ".")
	found, err := Fields(capabilities, parent)
	if err != nil || TypeOf(found[0]) != "object" {
		return false
	}
	if !nested {
		return true
	}
	modes, err := Fields(found[0], child, "url")
	if err != nil {
		return false
	}
	return given(modes[0]) || c == CapabilityElicitForm && !given(modes[1])
}

// Missing returns what of the needed a client has not declared.
func Missing(capabilities []byte, needed ...Capability) []Capability {
	var missing []Capability
	for _, c := range needed {
		if c != "" && !Declares(capabilities, c) {
			missing = append(missing, c)
		}
	}
	return missing
}

// MissingCapability is the error for a request that needs capabilities which the client has not
// declared.
func MissingCapability(missing []Capability) *Error {
	var required []byte
	names := make([]string, len(missing))
	for i, c := range missing {
		names[i] = string(c)
		parent, child, nested := strings.Cut(string(c), ".")
		inner := Within(parent, SetDefault(child, []byte("{}")))
		if !nested {
			inner = SetDefault(parent, []byte("{}"))
		}
		required = edited(required, inner)
	}
	data := append(append([]byte(`{"requiredCapabilities":`), required...), '}')
	return &Error{
		Code:    CodeMissingCapability,
		Message: "Server requires the " + strings.Join(names, ", ") + " capability for this request",
		Data:    data,
	}
}
