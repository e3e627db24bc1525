package mcp

import (
	"errors"
	"fmt"
	"slices"
)

// The members of _meta that the modern era defines.
const (
	MetaVersion        = "io.modelcontextprotocol/protocolVersion"
	MetaClientInfo     = "io.modelcontextprotocol/clientInfo"
	MetaCapabilities   = "io.modelcontextprotocol/clientCapabilities"
	MetaLogLevel       = "io.modelcontextprotocol/logLevel"
	MetaSubscriptionID = "io.modelcontextprotocol/subscriptionId"
	MetaServerInfo     = "io.modelcontextprotocol/serverInfo"
	MetaProgressToken  = "progressToken" // of both eras, as is the next
	MetaTraceparent    = "traceparent"
)

// Meta is what mcpfleet reads in the _meta of params. Each field is a raw span of the params, nil if
// there is no such member or it is null.
type Meta struct {
	Version        []byte
	ClientInfo     []byte
	Capabilities   []byte
	LogLevel       []byte
	ProgressToken  []byte
	SubscriptionID []byte
	Traceparent    []byte
}

// ParseMeta finds the _meta of params, which it checks in the same pass. Params that are absent or null
// have none. Params or a _meta of another type are a *TypeError. Of duplicates the last counts.
func ParseMeta(params []byte) (Meta, error) {
	_, m, err := ReadParams("", params)
	return m, err
}

// readMeta reads a _meta, which may be absent or null. allModern reports whether it has members, and
// all of them are of the modern era alone.
func readMeta(raw []byte) (m Meta, allModern bool, err error) {
	if !given(raw) {
		return m, false, nil
	}
	modern, others := 0, 0
	err = Members(raw, func(key, value []byte) bool {
		field, own := m.field(key)
		if own {
			modern++
		} else {
			others++
		}
		if field != nil {
			if *field = value; IsNull(value) {
				*field = nil
			}
		}
		return true
	})
	if err != nil {
		return Meta{}, false, fmt.Errorf("_meta: %w", err)
	}
	return m, modern > 0 && others == 0, nil
}

// field returns where the value of a member goes, nil if nobody reads it. modern reports whether
// metaToLegacy removes it.
func (m *Meta) field(key []byte) (field *[]byte, modern bool) {
	switch string(key) {
	case MetaVersion:
		return &m.Version, true
	case MetaClientInfo:
		return &m.ClientInfo, true
	case MetaCapabilities:
		return &m.Capabilities, true
	case MetaLogLevel:
		return &m.LogLevel, true
	case MetaProgressToken:
		return &m.ProgressToken, false
	case MetaSubscriptionID:
		return &m.SubscriptionID, false
	case MetaTraceparent:
		return &m.Traceparent, false
	}
	return nil, false
}

// ProtocolVersion returns the version that a modern request says it has, "" if it says none.
func (m *Meta) ProtocolVersion() string {
	if string(m.Version) == `"`+LatestModern+`"` {
		return LatestModern // as nearly always, and without a copy
	}
	return text(m.Version)
}

// Level returns the log level that a modern request asks for, "" if it asks for no log messages.
func (m *Meta) Level() string { return text(m.LogLevel) }

// text returns the raw string's value, "" if it is none.
func text(raw []byte) string {
	if TypeOf(raw) != "string" {
		return ""
	}
	return string(unquote(raw))
}

// Check returns the fault of a modern request's _meta, nil if it has none. It does not judge whether
// we speak the version.
func (m *Meta) Check() *Error {
	for _, rule := range []struct {
		name     string
		value    []byte
		want     string
		required bool
	}{
		{MetaVersion, m.Version, "string", true},
		{MetaCapabilities, m.Capabilities, "object", true},
		{MetaClientInfo, m.ClientInfo, "object", false},
		{MetaLogLevel, m.LogLevel, "string", false},
	} {
		switch got := TypeOf(rule.value); {
		case rule.value == nil && rule.required:
			return errorf(CodeInvalidParams, "Invalid params: _meta lacks the required member %q", rule.name)
		case rule.value != nil && got != rule.want:
			return errorf(CodeInvalidParams, "Invalid params: _meta %q %v", rule.name, &TypeError{rule.want, got})
		}
	}
	if m.ProgressToken != nil && !isID(m.ProgressToken) {
		return errorf(CodeInvalidParams, "Invalid params: _meta %q must be a string or a number, not %s",
			MetaProgressToken, article(TypeOf(m.ProgressToken)))
	}
	if m.LogLevel != nil && !IsLogLevel(m.Level()) {
		return errorf(CodeInvalidParams, "Invalid params: unknown log level %.100q", m.Level())
	}
	return nil
}

// MetaFault returns the error of a request whose _meta ParseMeta does not accept.
func MetaFault(err error) *Error {
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		return errorf(CodeParseError, "Parse error: params: %v", err)
	}
	return errorf(CodeInvalidParams, "Invalid params: %v", err)
}

// logLevels are the levels of log messages.
var logLevels = [...]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// IsLogLevel reports whether level is one of the levels of log messages.
func IsLogLevel(level string) bool { return slices.Contains(logLevels[:], level) }

// metaToLegacy removes what the modern era puts into _meta. It is made once, because it is on the path of
// every call.
var metaToLegacy = InMeta(Remove(MetaVersion), Remove(MetaClientInfo), Remove(MetaCapabilities), Remove(MetaLogLevel))

var metaWithoutLog = InMeta(Remove(MetaLogLevel))

// WithoutLogLevel returns params of a modern request that asks for no log messages.
func WithoutLogLevel(params []byte) ([]byte, error) { return Edit(params, metaWithoutLog) }

// ParamsToLegacy returns params of a modern request as a legacy server expects them: without what the
// modern era puts into _meta, and without the answers and the state of a retry. A _meta that is left
// empty goes too.
func ParamsToLegacy(method string, params []byte) ([]byte, error) {
	if method == MethodToolsCall { // nothing of its era would make use of a core task
		return Edit(params, metaToLegacy, Remove("inputResponses"), Remove("requestState"), Remove("task"))
	}
	if MayRequireInput(method) {
		return Edit(params, metaToLegacy, Remove("inputResponses"), Remove("requestState"))
	}
	return Edit(params, metaToLegacy)
}

// Client is what a legacy client said of itself in initialize and logging/setLevel, as raw values.
type Client struct {
	Info         []byte // nil: unknown
	Capabilities []byte
	LogLevel     string // "": no log messages
}

// ParamsToModern returns params of a legacy client's request as a modern server expects them. What the
// modern era puts into _meta is replaced by what the client said in initialize.
func ParamsToModern(params []byte, version string, c Client) ([]byte, error) {
	capabilities := c.Capabilities
	if len(capabilities) == 0 {
		capabilities = []byte("{}")
	}
	changes := [...]Change{
		Set(MetaVersion, AppendString(nil, version)),
		Set(MetaClientInfo, c.Info),
		Set(MetaCapabilities, capabilities),
		Set(MetaLogLevel, nil),
	}
	if len(c.Info) == 0 {
		changes[1] = Remove(MetaClientInfo)
	}
	if c.LogLevel == "" {
		changes[3] = Remove(MetaLogLevel)
	} else {
		changes[3].value = AppendString(nil, c.LogLevel)
	}
	return Edit(params, InMeta(changes[:]...))
}
