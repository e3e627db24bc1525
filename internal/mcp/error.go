package mcp

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Code is the code of a JSON-RPC error.
type Code int

// The codes that JSON-RPC 2.0 and MCP define.
const (
	CodeParseError     Code = -32700
	CodeInvalidRequest Code = -32600
	CodeMethodNotFound Code = -32601
	CodeInvalidParams  Code = -32602
	CodeInternalError  Code = -32603

	// The codes of the modern era.
	CodeHeaderMismatch     Code = -32020
	CodeMissingCapability  Code = -32021
	CodeUnsupportedVersion Code = -32022

	// The codes of the legacy era, which a modern client must not see.
	CodeResourceNotFound       Code = -32002
	CodeURLElicitationRequired Code = -32042
)

// reserved reports whether only the specification of the modern era may give a code a meaning.
func (c Code) reserved() bool { return c <= -32020 && c >= -32099 }

// Error is a JSON-RPC error.
type Error struct {
	Code    Code            `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// ProvesModern reports whether only a server of the modern era answers server/discover with the
// error. The code alone is no proof: some legacy servers have codes of their own, so what the
// specification demands in the data must be there. Headers do not exist on stdio.
func (e *Error) ProvesModern() bool {
	var data struct {
		Supported            []string                   `json:"supported"`
		RequiredCapabilities map[string]json.RawMessage `json:"requiredCapabilities"`
	}
	if json.Unmarshal(e.Data, &data) != nil {
		return false
	}
	return e.Code == CodeUnsupportedVersion && len(data.Supported) > 0 || e.Code == CodeMissingCapability && len(data.RequiredCapabilities) > 0
}

func (e *Error) Error() string { return fmt.Sprintf("JSON-RPC error %d: %s", e.Code, e.Message) }

// Append appends the error as an object.
func (e *Error) Append(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, `{"code":`...), int64(e.Code), 10)
	dst = AppendString(append(dst, `,"message":`...), e.Message)
	if len(e.Data) > 0 {
		dst = append(append(dst, `,"data":`...), e.Data...)
	}
	return append(dst, '}')
}

// ParseError decodes a raw error object. A malformed one becomes an internal error that quotes it.
func ParseError(raw []byte) *Error {
	e := new(Error)
	if err := json.Unmarshal(raw, e); err != nil {
		return &Error{Code: CodeInternalError, Message: string(raw)}
	}
	return e
}

func errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Failure is the data of an error of our own.
type Failure struct {
	Code       string
	RequestID  string
	RetryAfter time.Duration // 0: not given
}

// Append appends the data as an object. The time is in seconds, rounded up.
func (f Failure) Append(dst []byte) []byte {
	dst = AppendString(append(dst, `{"code":`...), f.Code)
	dst = AppendString(append(dst, `,"request_id":`...), f.RequestID)
	if f.RetryAfter > 0 {
		seconds := (f.RetryAfter + time.Second - 1) / time.Second
		dst = strconv.AppendInt(append(dst, `,"retry_after":`...), int64(seconds), 10)
	}
	return append(dst, '}')
}

// UnsupportedVersion is the error for a request of a version that we do not speak.
func UnsupportedVersion(requested string, supported []string) *Error {
	data := append(appendStrings([]byte(`{"supported":`), supported), `,"requested":`...)
	return &Error{
		Code:    CodeUnsupportedVersion,
		Message: "Unsupported protocol version",
		Data:    append(AppendString(data, requested), '}'),
	}
}

func appendStrings(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, text)
	}
	return append(dst, ']')
}

// ErrorToModern translates a raw error of a legacy server for a modern client. A missing resource has
// another code there. A code that the modern specification keeps for itself becomes an internal error:
// the server did not mean what the client would read. All other bytes stay. An error that says which
// URLs the user must visit is RequiredURLs' concern before.
func ErrorToModern(raw []byte) []byte {
	switch code := codeOf(raw); {
	case code == CodeResourceNotFound:
		return withCode(raw, CodeInvalidParams)
	case code.reserved():
		return withCode(raw, CodeInternalError)
	}
	return raw
}

// ErrorToLegacy translates a raw error of a modern server to a request of a legacy client. A missing
// resource has a code of its own there. The specification lets data.uri tell it from other faults.
func ErrorToLegacy(method string, raw []byte) []byte {
	if method != MethodResourcesRead || codeOf(raw) != CodeInvalidParams {
		return raw
	}
	members, err := Fields(raw, "data")
	if err != nil {
		return raw
	}
	if data, err := Fields(members[0], "uri"); err != nil || data[0] == nil {
		return raw
	}
	return withCode(raw, CodeResourceNotFound)
}

// codeOf returns the code of a raw error, 0 if it has none.
func codeOf(raw []byte) Code {
	members, err := Fields(raw, "code")
	if err != nil {
		return 0
	}
	code, err := strconv.Atoi(string(members[0]))
	if err != nil {
		return 0
	}
	return Code(code)
}

func withCode(raw []byte, code Code) []byte {
	changed, err := Edit(raw, Set("code", strconv.AppendInt(nil, int64(code), 10)))
	if err != nil {
		return raw // cannot happen: it has a code
	}
	return changed
}
