package mcp

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The HTTP headers of a modern request, as messages about them write their names.
const (
	HeaderVersion = "MCP-Protocol-Version"
	HeaderMethod  = "Mcp-Method"
	HeaderName    = "Mcp-Name"
	HeaderParam   = "Mcp-Param-" // and what x-mcp-header says
)

// Headers returns the values of the header with that name, in any case: http.Header.Values.
type Headers func(name string) []string

// CheckHeaders returns the fault of a modern request's standard headers, which repeat what the body
// says. nil means that they agree. target is called, as Target, if a header must repeat the target.
func CheckHeaders(headers Headers, method string, target func() (string, error), m *Meta) *Error {
	if err := checkHeader(headers, HeaderVersion, m.ProtocolVersion(), false); err != nil {
		return err
	}
	if err := checkHeader(headers, HeaderMethod, method, false); err != nil {
		return err
	}
	switch method {
	case MethodToolsCall, MethodPromptsGet, MethodResourcesRead:
	case MethodTaskGet, MethodTaskUpdate, MethodTaskCancel: // of the tasks extension
	default:
		return nil
	}
	name, err := target()
	if err != nil {
		return errorf(CodeInvalidParams, "Invalid params: %v", err)
	}
	return checkHeader(headers, HeaderName, name, true)
}

// checkHeader compares a required header with the body's value.
func checkHeader(headers Headers, name, want string, encoded bool) *Error {
	got, found, fault := headerValue(headers, name, encoded)
	switch {
	case fault != nil:
		return fault
	case !found:
		return headerMismatch("required %s header is missing", name)
	case got != want:
		return headerMismatch("%s header value '%.200s' does not match body value '%.200s'", name, got, want)
	}
	return nil
}

// headerValue returns the decoded value of a header that may come once.
func headerValue(headers Headers, name string, encoded bool) (value string, found bool, fault *Error) {
	values := headers(name)
	switch {
	case len(values) == 0:
		return "", false, nil
	case len(values) > 1:
		return "", true, headerMismatch("%s header is repeated", name)
	}
	value = strings.Trim(values[0], " \t")
	if !isHeaderValue(value) {
		return "", true, headerMismatch("%s header value contains invalid characters", name)
	}
	if encoded {
		decoded, err := DecodeHeader(value)
		if err != nil {
			return "", true, headerMismatch("%s header value '%.200s' is %v", name, value, err)
		}
		value = decoded
	}
	return value, true, nil
}

func headerMismatch(format string, args ...any) *Error {
	return errorf(CodeHeaderMismatch, "Header mismatch: "+format, args...)
}

// A header value between these is the Base64 of what it stands for.
const (
	base64Prefix = "=?base64?"
	base64Suffix = "?="
)

// DecodeHeader returns what a header value stands for. Only a value between the markers of Base64
// stands for something other than itself.
func DecodeHeader(value string) (string, error) {
	if !isEncoded(value) {
		return value, nil
	}
	inner := value[len(base64Prefix) : len(value)-len(base64Suffix)]
	decoded, err := base64.StdEncoding.Strict().DecodeString(inner)
	if err != nil {
		return "", fmt.Errorf("not valid Base64")
	}
	if !utf8.Valid(decoded) {
		return "", fmt.Errorf("not UTF-8 in Base64")
	}
	return string(decoded), nil
}

// EncodeHeader returns the header value that stands for text, in Base64 if text itself cannot travel in
// a header unchanged.
func EncodeHeader(text string) string {
	if text != "" && isHeaderValue(text) && text == strings.Trim(text, " \t") && !isEncoded(text) {
		return text
	}
	return base64Prefix + base64.StdEncoding.EncodeToString([]byte(text)) + base64Suffix
}

func isEncoded(value string) bool {
	return len(value) >= len(base64Prefix)+len(base64Suffix) &&
		strings.HasPrefix(value, base64Prefix) && strings.HasSuffix(value, base64Suffix)
}

// isHeaderValue reports whether a value consists of what HTTP allows in one: visible ASCII, spaces and
// tabs.
func isHeaderValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; (c < ' ' || c > '~') && c != '\t' {
			return false
		}
	}
	return true
}

// isToken reports whether text can be the name of a header.
func isToken(text string) bool {
	for i := range len(text) {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}
