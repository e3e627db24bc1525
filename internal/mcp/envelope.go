package mcp

import (
	"errors"
	"fmt"
)

// Kind is what a message is.
type Kind uint8

// The kinds of messages. KindNone is the kind of what is no message.
const (
	KindNone Kind = iota
	KindRequest
	KindNotification
	KindResponse
	KindErrorResponse
	KindBatch
)

func (k Kind) String() string {
	switch k {
	case KindRequest:
		return "request"
	case KindNotification:
		return "notification"
	case KindResponse:
		return "response"
	case KindErrorResponse:
		return "error response"
	case KindBatch:
		return "batch"
	case KindNone:
	}
	return "no message"
}

// Envelope is a message's outside. Each field is a raw span of the scanned line, nil where the
// message has no such member.
type Envelope struct {
	Kind   Kind
	ID     []byte // raw: 12 or "a"; an error response may have null or none
	Method []byte // decoded: without its quotes
	Params []byte
	Result []byte
	Error  []byte
	// Answers reports whether the message, valid or not, can only be meant as the answer to the request
	// that ID names: it has no method, and either says that it is JSON-RPC or has no member that
	// JSON-RPC does not know. A JSON log line that happens to have an id is none.
	Answers bool
}

// ErrNotMessage is for a line that is valid JSON but no JSON-RPC 2.0 message.
var ErrNotMessage = errors.New("not a JSON-RPC 2.0 message")

// Scan finds the parts of one message in one pass, without decoding them. The whole line is
// checked: one that is no valid JSON in valid UTF-8 is a *SyntaxError, one that is no message an
// ErrNotMessage. With the latter the envelope still holds the spans that were found, so that a
// broken reply can end the call it names.
//
// Of duplicate members the last counts. A member "error" or "result" that is null beside the other
// one counts as absent, because some servers send both. A message with a result or an error is a
// response even if it repeats the request's method, unless they are null. An array is a KindBatch
// with nothing else filled in; Elements takes it apart.
func Scan(line []byte) (Envelope, error) {
	i := skipSpace(line, 0)
	if i == len(line) || line[i] != '{' {
		if err := Valid(line); err != nil {
			return Envelope{}, err
		}
		if line[i] == '[' {
			return Envelope{Kind: KindBatch}, nil
		}
		return Envelope{}, fmt.Errorf("%w: %s", ErrNotMessage, article(TypeOf(line)))
	}
	var env Envelope
	var version []byte
	foreign := false // a member that no message has
	_, end, why := members(line, i, func(key []byte, start, end int) bool {
		value := line[start:end:end]
		switch string(key) {
		case "jsonrpc":
			version = value
		case "id":
			env.ID = value
		case "method":
			env.Method = value
		case "params":
			env.Params = value
		case "result":
			env.Result = value
		case "error":
			env.Error = value
		default:
			foreign = true
		}
		return true
	})
	if why == "" {
		if end = skipSpace(line, end); end < len(line) {
			why = whyTrailing
		}
	}
	if why != "" {
		return Envelope{}, syntaxError(line, end, why)
	}
	env.Answers = env.ID != nil && !env.asks() && (version != nil || !foreign)
	return classify(env, version)
}

func classify(env Envelope, version []byte) (Envelope, error) {
	if TypeOf(version) != "string" || string(unquote(version)) != "2.0" {
		return env, fmt.Errorf(`%w: "jsonrpc" is not "2.0"`, ErrNotMessage)
	}
	if env.asks() {
		if TypeOf(env.Method) != "string" {
			return env, fmt.Errorf(`%w: "method" is not a string`, ErrNotMessage)
		}
		env.Method = unquote(env.Method)
		switch {
		case env.ID == nil:
			env.Kind = KindNotification
		case isID(env.ID):
			env.Kind = KindRequest
		default:
			return env, fmt.Errorf(`%w: the request's "id" is neither a string nor a number`, ErrNotMessage)
		}
		return env, nil
	}
	env.Method = nil
	if env.Error != nil && env.Result != nil {
		switch {
		case IsNull(env.Error):
			env.Error = nil
		case IsNull(env.Result):
			env.Result = nil
		default:
			return env, fmt.Errorf(`%w: both "result" and "error"`, ErrNotMessage)
		}
	}
	switch {
	case env.Error != nil && TypeOf(env.Error) != "object":
		return env, fmt.Errorf(`%w: "error" is not an object`, ErrNotMessage)
	case env.Error != nil && (env.ID == nil || IsNull(env.ID) || isID(env.ID)):
		env.Kind = KindErrorResponse
	case env.Result != nil && isID(env.ID):
		env.Kind = KindResponse
	case isID(env.ID):
		return env, fmt.Errorf(`%w: an answer with neither "result" nor "error"`, ErrNotMessage)
	default:
		return env, fmt.Errorf("%w: neither a request, a notification nor a response", ErrNotMessage)
	}
	return env, nil
}

// asks reports whether a message is meant as a request or a notification. Encoders that omit nothing
// give these a result and an error, too, both null, and an answer a method that is null.
func (e *Envelope) asks() bool {
	return given(e.Method) && !given(e.Result) && !given(e.Error)
}

func given(raw []byte) bool { return raw != nil && !IsNull(raw) }

func isID(raw []byte) bool {
	t := TypeOf(raw)
	return t == "string" || t == "number"
}
