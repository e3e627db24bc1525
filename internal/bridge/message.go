package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// The codes of our own JSON-RPC errors. Those with a counterpart at a controller
// are the same, see docs/MCP.md.
const (
	codeOverloaded    mcp.Code = -31001
	codeTooLarge      mcp.Code = -31006
	codeBadReply      mcp.Code = -31007
	codeReplyTooLarge mcp.Code = -31008
	codeUnavailable   mcp.Code = -31013
	codeLost          mcp.Code = -31015
)

// names of the codes in the data of an error.
func codeName(code mcp.Code) string {
	switch code {
	case codeOverloaded:
		return "overloaded"
	case codeTooLarge:
		return "too_large"
	case codeBadReply:
		return "bad_reply"
	case codeReplyTooLarge:
		return "reply_too_large"
	case codeUnavailable:
		return "unavailable"
	case codeLost:
		return "connection_lost"
	}
	return ""
}

// message is a message of the client.
type message struct {
	line    []byte
	env     mcp.Envelope
	method  string
	version string // that a modern message names in its _meta; "" for a legacy one
}

// parse scans a line of the client.
func parse(line []byte) (*message, error) {
	env, err := mcp.Scan(line)
	m := &message{line: line, env: env, method: string(env.Method)}
	if err != nil {
		return m, err
	}
	if env.Kind == mcp.KindRequest || env.Kind == mcp.KindNotification {
		if meta, err := mcp.ParseMeta(env.Params); err == nil {
			m.version = meta.ProtocolVersion()
		}
	}
	return m, nil
}

// within returns the raw value at a path of members, nil if there is none.
func within(raw []byte, path ...string) []byte {
	for _, name := range path {
		found, err := mcp.Fields(raw, name)
		if err != nil {
			return nil
		}
		raw = found[0]
	}
	return raw
}

func (m *message) modern() bool { return m.version != "" }

// harmless reports whether the request only reads, or sets what it may set twice,
// so that it may be repeated even if a controller got it before.
func (m *message) harmless() bool {
	switch m.method {
	case mcp.MethodInitialize, mcp.MethodPing, mcp.MethodToolsList, mcp.MethodResourcesList, mcp.MethodResourceTemplates, mcp.MethodPromptsList,
		mcp.MethodDiscover, mcp.MethodListen, mcp.MethodSetLevel, mcp.MethodSubscribe, mcp.MethodUnsubscribe:
		return true
	}
	return false
}

// idKey returns a key for a raw id: different spellings of a string or a number
// have one key.
func idKey(raw []byte) string {
	if s, err := mcp.String(raw); err == nil {
		return strconv.Quote(s)
	}
	text := string(bytes.TrimSpace(raw))
	if f, err := strconv.ParseFloat(text, 64); err == nil && f == float64(int64(f)) && f < 1<<53 && f > -(1<<53) {
		return strconv.FormatInt(int64(f), 10)
	}
	return text
}

// failure is an error that a request of the client ends with.
type failure struct {
	code mcp.Code
	text string
	raw  []byte // the whole error object of a server, instead of the two above
}

func (f *failure) Error() string { return f.text }

// plain returns an error with the same text that no request ends with.
func (f *failure) plain() error { return errors.New(f.text) }

func failf(code mcp.Code, format string, args ...any) *failure {
	return &failure{code: code, text: fmt.Sprintf(format, args...)}
}

// reply returns the error response for the request with this raw id, without an
// id if that is nil.
func (f *failure) reply(id []byte) []byte {
	out := []byte(`{"jsonrpc":"2.0"`)
	if id != nil {
		out = append(append(out, `,"id":`...), id...)
	}
	out = append(out, `,"error":`...)
	if f.raw != nil {
		return append(append(out, f.raw...), '}')
	}
	out = strconv.AppendInt(append(out, `{"code":`...), int64(f.code), 10)
	out = mcp.AppendString(append(out, `,"message":`...), f.text)
	if name := codeName(f.code); name != "" {
		out = append(mcp.AppendString(append(out, `,"data":{"code":`...), name), '}')
	}
	return append(out, `}}`...)
}

// refusal returns the failure for an HTTP response that is not a success.
func refusal(resp *http.Response, body []byte) *failure {
	if env, err := mcp.Scan(body); err == nil && env.Kind == mcp.KindErrorResponse {
		return &failure{raw: env.Error, text: mcp.ParseError(env.Error).Message}
	}
	found, err := mcp.Fields(body, "detail", "code") // the HTTP API's error
	if err == nil {
		if detail, err := mcp.String(found[0]); err == nil {
			return failf(codeUnavailable, "the controller answers %s: %s", resp.Status, detail)
		}
	}
	return failf(codeUnavailable, "the controller answers %s", resp.Status)
}

// errorCode returns the code of an error response, or 0.
func errorCode(body []byte) mcp.Code {
	env, err := mcp.Scan(body)
	if err != nil || env.Kind != mcp.KindErrorResponse {
		return 0
	}
	return mcp.ParseError(env.Error).Code
}
