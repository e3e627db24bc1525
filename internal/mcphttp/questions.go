package mcphttp

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// questions are what a legacy server asks a modern client during one call, until they
// become one result.
type questions struct {
	capabilities []byte // the client's
	requests     []mcp.InputRequest
	asked        []asked
}

// add takes a request of the server. Its error ends the call: the client has not declared
// that it can be asked, or the request is none that a result may hold.
func (q *questions) add(m *fleet.Message) *mcp.Error {
	need := mcp.Needs(m.Method, m.Params)
	if need == "" {
		return &mcp.Error{Code: mcp.CodeInternalError, Message: "the server sent its client a request of an unknown method: " + m.Method}
	}
	if missing := mcp.Missing(q.capabilities, need); len(missing) > 0 {
		return mcp.MissingCapability(missing)
	}
	request, err := mcp.PushedRequest(mcp.InputKey(int(m.Seq)), m.Method, m.Params)
	if err != nil {
		return &mcp.Error{Code: mcp.CodeInternalError, Message: "the server sent its client a malformed request: " + err.Error()}
	}
	q.requests = append(q.requests, request)
	q.asked = append(q.asked, asked{request.Key, m.ID})
	return nil
}

// result returns the result that asks the client, with the raw state of the parked call.
func (q *questions) result(state []byte) []byte {
	return (&mcp.InputRequired{Requests: q.requests, State: state}).Append(nil)
}
