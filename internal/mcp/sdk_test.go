package mcp

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/client/transport"
	mcpgo "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// FuzzScanSDK compares the parts of messages with those that mcp-go and go-sdk decode.
func FuzzScanSDK(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add([]byte(s))
	}
	f.Add([]byte("{\"jsonrpc\":\"2.0\",\r\n\"id\":\"\\ud83d\\ude00\u2028\",\"method\":\"a\\/b\",\"params\":{\"n\":1e400}}"))
	f.Add([]byte(`{"jsonrpc":"2.0","id":-3,"error":{"code":-32601,"message":"m","data":[null]},"x":{"id":4}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		env, err := Scan(line)
		if err != nil || env.Kind == KindBatch || folded(line) {
			return
		}
		compareMCPGo(t, &env, line)
		compareGoSDK(t, &env, line)
	})
}

func compareMCPGo(t *testing.T, env *Envelope, line []byte) {
	var id mcpgo.RequestId
	if env.ID != nil && json.Unmarshal(env.ID, &id) != nil {
		return // a number out of range
	}
	if env.Kind == KindRequest || env.Kind == KindNotification {
		var want mcpgo.JSONRPCRequest
		if json.Unmarshal(line, &want) != nil {
			return // as above, in the params
		}
		if want.Method != string(env.Method) || want.ID != id {
			t.Fatalf("Scan(%q): %q with id %q, mcp-go %q with %v", line, env.Method, env.ID, want.Method, want.ID)
		}
		return
	}
	var want transport.JSONRPCResponse
	if json.Unmarshal(line, &want) != nil {
		return
	}
	if want.ID != id || (want.Error != nil) != (env.Kind == KindErrorResponse) {
		t.Fatalf("Scan(%q): id %q, error %q, mcp-go %v, %v", line, env.ID, env.Error, want.ID, want.Error)
	}
	if env.Kind == KindResponse && !bytes.Equal(want.Result, env.Result) {
		t.Fatalf("Scan(%q): result %q, mcp-go %q", line, env.Result, want.Result)
	}
}

// compareGoSDK leaves numbers as ids to compareMCPGo: go-sdk cuts their fractions off.
func compareGoSDK(t *testing.T, env *Envelope, line []byte) {
	decoded, err := jsonrpc.DecodeMessage(line)
	if err != nil {
		return // it is stricter, with ids and codes of errors
	}
	var both struct{ Method, Result, Error json.RawMessage }
	if json.Unmarshal(line, &both) == nil && both.Method != nil && (both.Result != nil || both.Error != nil) {
		return // a request and a response at once, as which it may be read
	}
	switch want := decoded.(type) {
	case *jsonrpc.Request:
		if env.Kind != KindRequest && env.Kind != KindNotification || want.Method != string(env.Method) || !bytes.Equal(want.Params, env.Params) {
			t.Fatalf("Scan(%q): %v %q with params %q, go-sdk %q with %q", line, env.Kind, env.Method, env.Params, want.Method, want.Params)
		}
		if want.IsCall() != (env.Kind == KindRequest) {
			t.Fatalf("Scan(%q): %v, go-sdk has the id %v", line, env.Kind, want.ID.Raw())
		}
		compareID(t, env, want.ID.Raw())
	case *jsonrpc.Response:
		if env.Kind != KindResponse && env.Kind != KindErrorResponse || (want.Error != nil) != (env.Kind == KindErrorResponse) {
			t.Fatalf("Scan(%q): %v, go-sdk has a response with the error %v", line, env.Kind, want.Error)
		}
		if env.Kind == KindResponse && !bytes.Equal(want.Result, env.Result) {
			t.Fatalf("Scan(%q): result %q, go-sdk %q", line, env.Result, want.Result)
		}
		compareID(t, env, want.ID.Raw())
	}
}

// compareID compares an id that is a string.
func compareID(t *testing.T, env *Envelope, want any) {
	text, isText := want.(string)
	if !isText {
		return
	}
	if id, err := String(env.ID); err != nil || id != text {
		t.Fatalf("Scan: id %q, go-sdk %q", env.ID, text)
	}
}

// folded reports whether a decoder into structs would take a member for one of JSON-RPC
// that only looks like it, or whether there are two of a name.
func folded(object []byte) bool {
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token() // it is valid
	var seen []string
	for d.More() {
		token, _ := d.Token()
		var value json.RawMessage
		name, ok := token.(string)
		if !ok || d.Decode(&value) != nil {
			return true
		}
		if slices.ContainsFunc(seen, func(other string) bool { return strings.EqualFold(name, other) }) {
			return true
		}
		seen = append(seen, name)
	}
	return slices.ContainsFunc(seen, func(name string) bool {
		return slices.ContainsFunc(envelopeMembers, func(known string) bool { return name != known && strings.EqualFold(name, known) })
	})
}

// envelopeMembers are those of messages.
var envelopeMembers = []string{"jsonrpc", "id", "method", "params", "result", "error"}
