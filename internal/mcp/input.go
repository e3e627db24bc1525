package mcp

import (
	"errors"
	"fmt"
	"strconv"
)

// InputRequest is a request to the client inside an input_required result. Params is raw, nil if there
// are none.
type InputRequest struct {
	Key    string
	Method string
	Params []byte
}

// InputRequired is an input_required result.
type InputRequired struct {
	Requests []InputRequest // in the server's order
	State    []byte         // raw requestState, nil if there is none
}

// ParseInputRequired reads an input_required result. Its spans are parts of result. A state that is not
// a string, and a result with neither requests nor state, are an error.
func ParseInputRequired(result []byte) (*InputRequired, error) {
	members, err := Fields(result, "inputRequests", "requestState")
	if err != nil {
		return nil, fmt.Errorf("result: %w", err)
	}
	r := new(InputRequired)
	if given(members[1]) {
		if r.State = members[1]; TypeOf(r.State) != "string" {
			return nil, fmt.Errorf("requestState: %w", &TypeError{Want: "string", Got: TypeOf(r.State)})
		}
	}
	if given(members[0]) {
		if r.Requests, err = parseInputRequests(members[0]); err != nil {
			return nil, fmt.Errorf("inputRequests: %w", err)
		}
	}
	if len(r.Requests) == 0 && r.State == nil {
		return nil, errors.New("result: neither inputRequests nor requestState")
	}
	return r, nil
}

func parseInputRequests(raw []byte) (all []InputRequest, err error) {
	var wrong error
	err = Members(raw, func(key, value []byte) bool {
		var request InputRequest
		if request, wrong = parseInputRequest(string(key), value); wrong != nil {
			return false
		}
		all = append(all, request)
		return true
	})
	return lastOfEach(all, func(r InputRequest) string { return r.Key }), errors.Join(err, wrong)
}

func parseInputRequest(key string, raw []byte) (InputRequest, error) {
	members, err := Fields(raw, "method", "params")
	if err != nil {
		return InputRequest{}, fmt.Errorf("%q: %w", key, err)
	}
	r := InputRequest{Key: key, Method: text(members[0])}
	if r.Method == "" {
		return InputRequest{}, fmt.Errorf("%q: no method", key)
	}
	if given(members[1]) {
		r.Params = members[1]
	}
	return r, nil
}

// lastOfEach keeps the last of the elements with the same key, because of duplicates the last counts.
func lastOfEach[T any](all []T, key func(T) string) []T {
	at := make(map[string]int, len(all))
	kept := all[:0]
	for _, one := range all {
		if i, repeated := at[key(one)]; repeated {
			kept[i] = one
			continue
		}
		at[key(one)] = len(kept)
		kept = append(kept, one)
	}
	return kept
}

// Append appends the result as a modern client expects it.
func (r *InputRequired) Append(dst []byte) []byte {
	dst = append(dst, `{"resultType":"`+ResultInputRequired+`"`...)
	if len(r.Requests) > 0 {
		dst = append(dst, `,"inputRequests":{`...)
		for i, request := range r.Requests {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendString(dst, request.Key)
			dst = AppendString(append(dst, `:{"method":`...), request.Method)
			if len(request.Params) > 0 {
				dst = append(append(dst, `,"params":`...), request.Params...)
			}
			dst = append(dst, '}')
		}
		dst = append(dst, '}')
	}
	if r.State != nil {
		dst = append(append(dst, `,"requestState":`...), r.State...)
	}
	return append(dst, '}')
}

// InputKey returns the key of the nth request to the client that a call leads to. Keys that go on
// counting over the rounds of a call let nobody mistake an old answer for a new one.
func InputKey(n int) string { return "input-" + strconv.Itoa(n) }

// PushedRequest turns a request that a legacy server pushed into one for a modern client. An id that
// only a later notification would refer to, a task of the old protocol, and a progress token, whose
// notifications have no way back, are left out. Params that are missing become empty ones, because
// clients of the Go SDK (1.7 and 1.8) cannot read a request without any.
func PushedRequest(key, method string, params []byte) (InputRequest, error) {
	if len(params) > 0 {
		changes := []Change{Remove("task"), InMeta(Remove(MetaProgressToken))}
		if method == MethodElicit {
			changes = append(changes, Remove("elicitationId"))
		}
		var err error
		if params, err = Edit(params, changes...); err != nil {
			return InputRequest{}, fmt.Errorf("params of %s: %w", method, err)
		}
	} else {
		params = []byte("{}")
	}
	return InputRequest{Key: key, Method: method, Params: params}, nil
}

// AskParams returns the params of a request in an input_required result as a legacy client expects them.
// id is that of the request, which becomes the id of an elicitation by URL: the modern era has none, and
// legacy clients refuse one without.
func AskParams(r InputRequest, id string) []byte {
	if Needs(r.Method, r.Params) != CapabilityElicitURL {
		return r.Params
	}
	params, err := Edit(r.Params, SetDefault("elicitationId", AppendString(nil, id)))
	if err != nil {
		return r.Params // cannot happen: they have a mode
	}
	return params
}

// RequiredURLs turns the raw error with which a legacy server says that the user must visit URLs first
// into requests for a modern client. The first gets the key of number first. ok is false if the error
// is another one, or says no URL.
func RequiredURLs(raw []byte, first int) (requests []InputRequest, ok bool) {
	if codeOf(raw) != CodeURLElicitationRequired {
		return nil, false
	}
	members, err := Fields(raw, "data")
	if err != nil || !given(members[0]) {
		return nil, false
	}
	data, err := Fields(members[0], "elicitations")
	if err != nil || !given(data[0]) {
		return nil, false
	}
	err = Elements(data[0], func(value []byte) bool {
		params, err := Edit(value, SetDefault("mode", []byte(`"url"`)))
		if err != nil {
			return true // leave out what is no object
		}
		if request, err := PushedRequest(InputKey(first+len(requests)), MethodElicit, params); err == nil {
			requests = append(requests, request)
		}
		return true
	})
	return requests, err == nil && len(requests) > 0
}

// InputResponse is the client's raw result of one request to it.
type InputResponse struct {
	Key    string
	Result []byte
}

// InputResponses is what the retry of a request says beside the request itself.
type InputResponses struct {
	Responses []InputResponse
	State     []byte // raw requestState, nil if there is none
}

// Retries reports whether the request is a retry at all.
func (r *InputResponses) Retries() bool { return len(r.Responses) > 0 || r.State != nil }

// Result returns the result for a key, nil if there is none.
func (r *InputResponses) Result(key string) []byte {
	for _, response := range r.Responses {
		if response.Key == key {
			return response.Result
		}
	}
	return nil
}

// Declined reports whether the user declined an elicitation, or dismissed it.
func (r *InputResponses) Declined() bool {
	for _, response := range r.Responses {
		found, err := Fields(response.Result, "action")
		if err != nil {
			continue
		}
		if action := text(found[0]); action == "decline" || action == "cancel" {
			return true
		}
	}
	return false
}

// ParseInputResponses reads the answers and the state in the params of a retry. Its spans are parts of
// params.
func ParseInputResponses(params []byte) (*InputResponses, error) {
	r := new(InputResponses)
	members, err := paramFields(params, "inputResponses", "requestState")
	if err != nil {
		return nil, err
	}
	if given(members[1]) {
		if r.State = members[1]; TypeOf(r.State) != "string" {
			return nil, fmt.Errorf("requestState %w", &TypeError{Want: "string", Got: TypeOf(r.State)})
		}
	}
	if !given(members[0]) {
		return r, nil
	}
	var wrong error
	err = Members(members[0], func(key, value []byte) bool {
		if TypeOf(value) != "object" {
			wrong = fmt.Errorf("%q %w", key, &TypeError{Want: "object", Got: TypeOf(value)})
			return false
		}
		r.Responses = append(r.Responses, InputResponse{Key: string(key), Result: value})
		return true
	})
	if err = errors.Join(err, wrong); err != nil {
		return nil, fmt.Errorf("inputResponses: %w", err)
	}
	r.Responses = lastOfEach(r.Responses, func(r InputResponse) string { return r.Key })
	return r, nil
}

// WithInputResponses returns the params of a retry: those of the request, with the answers to its
// input_required result and the state that this had. What params had of a former round goes.
func WithInputResponses(params []byte, r *InputResponses) ([]byte, error) {
	responses, state := Remove("inputResponses"), Remove("requestState")
	if len(r.Responses) > 0 {
		raw := []byte{'{'}
		for i, response := range r.Responses {
			if i > 0 {
				raw = append(raw, ',')
			}
			raw = append(append(AppendString(raw, response.Key), ':'), response.Result...)
		}
		responses = Set("inputResponses", append(raw, '}'))
	}
	if r.State != nil {
		state = Set("requestState", r.State)
	}
	return Edit(params, responses, state)
}
