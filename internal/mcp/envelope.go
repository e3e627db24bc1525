package mcp

import (
	"errors"
	"fmt"
)

// Kind is the kind of a message.
type Kind uint8

// The kinds of messages. KindNone is the kind of a text that is not a message.
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

// Envelope has the parts of a message. Each field is a raw span of the scanned line, nil if the message
// has no such member.
type Envelope struct {
	Kind   Kind
	ID     []byte // raw: 12 or "a"; null or absent in some error responses
	Method []byte // decoded: without its quotes
	Params []byte
	Result []byte
	Error  []byte
	// Answers reports whether the message, valid or not, can only be meant as the answer to the request
	// with this ID. It has no method, and either a version of JSON-RPC or only members of JSON-RPC. So a
	// JSON log line that has an id is not an answer.
	Answers bool
}

// ErrNotMessage means that a line is valid JSON but not a JSON-RPC 2.0 message.
var ErrNotMessage = errors.New("not a JSON-RPC 2.0 message")

// Scan finds the parts of a message in one pass, without decoding them. It checks the whole line. A
// line that is not valid JSON in valid UTF-8 is a *SyntaxError, and one that is not a message is an
// ErrNotMessage. With the latter the envelope has the spans that were found, so that a malformed reply
// can end the call that it names.
//
// Of duplicate members the last counts. A null "error" or "result" beside the other one counts as
// absent, because some servers send both. A message with a result or an error that is not null is a
// response, even if it repeats the request's method. An array is a KindBatch, with no other field set.
// Elements iterates over it.
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
	foreign := false // there is a member that messages do not have
	_, end, why := members(line, i, func(key []byte, _, start, end int) bool {
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

// asks reports whether a message is meant as a request or a notification. Some encoders add a null
// result and a null error to these, and a null method to answers.
func (e *Envelope) asks() bool {
	return given(e.Method) && !given(e.Result) && !given(e.Error)
}

func given(raw []byte) bool { return raw != nil && !IsNull(raw) }

func isID(raw []byte) bool {
	t := TypeOf(raw)
	return t == "string" || t == "number"
}
