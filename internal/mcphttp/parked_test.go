package mcphttp

import (
	"reflect"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

func TestParked(t *testing.T) {
	f := newFixture().front
	const params = `{"name":"a","arguments":{"n":1},"_meta":{"x":1}}`
	now := time.Now()
	identity, err := identify("tools/call", []byte(params))
	if err != nil {
		t.Fatal(err)
	}
	p := &parked{
		session: "abc", server: "old", replica: "r1", last: 5, at: fleet.EventID{Life: "l1", Stream: "s", Seq: 3}, caller: fleet.Anonymous,
		identity: identity, expires: now.Add(time.Minute).Truncate(time.Second), asked: []asked{{"input-4", []byte("0")}, {"input-5", []byte(`"x"`)}},
	}
	state, err := f.park(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.unpark(state, fleet.Anonymous, "tools/call", []byte(`{"inputResponses":{},"requestState":"s","arguments":{"n": 1},"name":"a"}`), now)
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, p)
	}
	other, err := f.cfg.Sealer.Seal(sessionPurpose, p.encode())
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() (*parked, error){
		"another token": func() (*parked, error) {
			return f.unpark(mcp.AppendString(nil, other), fleet.Anonymous, "tools/call", []byte(params), now)
		},
		"no token": func() (*parked, error) {
			return f.unpark([]byte(`"x"`), fleet.Anonymous, "tools/call", []byte(params), now)
		},
		"no string": func() (*parked, error) {
			return f.unpark([]byte(`7`), fleet.Anonymous, "tools/call", []byte(params), now)
		},
		"another caller": func() (*parked, error) { return f.unpark(state, "x", "tools/call", []byte(params), now) },
		"another method": func() (*parked, error) { return f.unpark(state, fleet.Anonymous, "prompts/get", []byte(params), now) },
		"another request": func() (*parked, error) {
			return f.unpark(state, fleet.Anonymous, "tools/call", []byte(`{"name":"a","arguments":{"n":2}}`), now)
		},
		"expired": func() (*parked, error) {
			return f.unpark(state, fleet.Anonymous, "tools/call", []byte(params), now.Add(time.Minute))
		},
	} {
		if got, err := try(); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	sealed := p.encode()
	for n := range sealed {
		_, _ = decodeParked(sealed[:n]) // does not panic
	}
}

func TestQuestions(t *testing.T) {
	q := questions{capabilities: []byte(`{"elicitation":{},"sampling":{}}`)}
	for seq, m := range []fleet.Message{
		{ID: []byte("0"), Method: "elicitation/create", Params: []byte(`{"message":"Who?","_meta":{"progressToken":0}}`)},
		{ID: []byte("1"), Method: "sampling/createMessage", Params: []byte(`{"maxTokens":1e2}`)},
	} {
		m.Seq = uint64(seq + 4)
		if fault := q.add(&m); fault != nil {
			t.Fatal(fault)
		}
	}
	for method, code := range map[string]mcp.Code{"roots/list": mcp.CodeMissingCapability, "x/y": mcp.CodeInternalError} {
		if fault := q.add(&fleet.Message{Method: method}); fault == nil || fault.Code != code {
			t.Errorf("%s: %v, want code %d", method, fault, code)
		}
	}
	want := `{"resultType":"input_required","inputRequests":{"input-4":{"method":"elicitation/create","params":{"message":"Who?"}},` +
		`"input-5":{"method":"sampling/createMessage","params":{"maxTokens":1e2}}},"requestState":"s"}`
	if got := string(q.result([]byte(`"s"`))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if want := []asked{{"input-4", []byte("0")}, {"input-5", []byte("1")}}; !reflect.DeepEqual(q.asked, want) {
		t.Errorf("asked %+v, want %+v", q.asked, want)
	}
}
