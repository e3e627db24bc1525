package mcp

import (
	"fmt"
	"testing"
)

func TestFilter(t *testing.T) {
	f, err := ParseListen([]byte(`{` + modernMeta + `,"notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true,
		"resourceSubscriptions":["file:///project/config.json","file:///project/config.json","b"],"taskIds":["t"],"unknown":7}}`))
	if err != nil {
		t.Fatal(err)
	}
	const all = `{"toolsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["file:///project/config.json","b"],"taskIds":["t"]}`
	if got := string(f.Append(nil)); got != all {
		t.Errorf("got  %s\nwant %s", got, all)
	}
	for capabilities, want := range map[string]string{
		`{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"extensions":{"io.modelcontextprotocol/tasks":{}}}`: all,
		`{"tools":{"listChanged":true}}`: `{"toolsListChanged":true}`,
		`{"tools":{"listChanged":false},"prompts":{"listChanged":true},"resources":{"subscribe":true},"tasks":{}}`: `{"resourceSubscriptions":["file:///project/config.json","b"]}`,
		`{"tools":{}}`: `{}`,
		``:             `{}`,
	} {
		h := f.Honoured([]byte(capabilities))
		if got := string(h.Append(nil)); got != want || h.Empty() != (want == "{}") {
			t.Errorf("of %s\ngot  %s\nwant %s", capabilities, got, want)
		}
		if again, err := ParseFilter(h.Append(nil)); err != nil || string(again.Append(nil)) != want {
			t.Errorf("%s became %v, %v", want, again, err)
		}
	}
	for params, want := range map[string]string{
		`{}`:                   `params lack "notifications"`,
		`[]`:                   "must be an object, not an array",
		`{"notifications":[]}`: "notifications: must be an object, not an array",
		`{"notifications":{"toolsListChanged":1}}`:        "notifications: toolsListChanged must be a boolean, not a number",
		`{"notifications":{"resourceSubscriptions":"a"}}`: "notifications: resourceSubscriptions must be an array, not a string",
		`{"notifications":{"taskIds":[1]}}`:               "notifications: taskIds has an element that must be a string, not a number",
	} {
		if _, err := ParseListen([]byte(params)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", params, err, want)
		}
	}
}

// The messages are those of the specification.
func TestSubscription(t *testing.T) {
	id := []byte(`"listen-1"`)
	f := &Filter{ToolsListChanged: true, Resources: []string{"file:///project/config.json"}}
	for _, tc := range []struct{ name, got, want string }{
		{"acknowledgement", string(AppendNotification(nil, MethodAcknowledged, AcknowledgedParams(id, f))),
			`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"listen-1"},` +
				`"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///project/config.json"]}}}`},
		{"end", string(AppendResult(nil, id, ListenResult(id))),
			`{"jsonrpc":"2.0","id":"listen-1","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"listen-1"}}}`},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.name, tc.got, tc.want)
		}
	}
	listen, err := ListenParams("v", Implementation{Name: "c", Version: "1"}, f)
	want := `{"_meta":{"io.modelcontextprotocol/protocolVersion":"v","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{}},"notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///project/config.json"]}}`
	if err != nil || string(listen) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, listen, want)
	}
	for plain, want := range map[string]string{
		``:                            `{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}`,
		`{"uri":"file:///a"}`:         `{"_meta":{"io.modelcontextprotocol/subscriptionId":1},"uri":"file:///a"}`,
		`{"_meta":{"a":1},"uri":"b"}`: `{"_meta":{"io.modelcontextprotocol/subscriptionId":1,"a":1},"uri":"b"}`,
	} {
		tagged, err := WithSubscription([]byte(plain), []byte("1"))
		if err != nil || string(tagged) != want {
			t.Errorf("%s: %s, %v, want %s", plain, tagged, err, want)
		}
		if plain == "" {
			plain = "{}"
		}
		if got, err := WithoutSubscription(tagged); err != nil || string(got) != plain {
			t.Errorf("%s: %s, %v, want %s", tagged, got, err, plain)
		}
		again, err := WithSubscription(tagged, []byte("2"))
		m, err2 := ParseMeta(again)
		if err != nil || err2 != nil || string(m.SubscriptionID) != "2" {
			t.Errorf("%s: %v %v", again, err, err2)
		}
	}
}
