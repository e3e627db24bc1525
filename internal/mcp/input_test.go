package mcp

import (
	"fmt"
	"testing"
)

func TestInputRequired(t *testing.T) {
	for _, result := range []string{ // as Append writes them; the contents are the specification's
		`{"resultType":"input_required","inputRequests":{"github_login":{"method":"elicitation/create","params":{"message":"Please provide your GitHub username","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}}},"capital_of_france":{"method":"sampling/createMessage","params":{"messages":[{"role":"user","content":{"type":"text","text":"What is the capital of France?"}}],"maxTokens":100}}},"requestState":"eyJsb2NhdGlvbiI6Ik5ldyBZb3JrIn0"}`,
		`{"resultType":"input_required","requestState":"eyJwcm9ncmVzcyI6IjUwJSIsInN0YXRlIjoicHJvY2Vzc2luZyJ9"}`,
		`{"resultType":"input_required","inputRequests":{"r":{"method":"roots/list"}}}`,
		`{"resultType":"input_required","inputRequests":{"10":{"method":"roots/list"},"9":{"method":"roots/list","params":{"n":9007199254740993}}},"requestState":""}`,
	} {
		r, err := ParseInputRequired([]byte(result))
		if err != nil {
			t.Errorf("%s: %v", result, err)
			continue
		}
		if got := string(r.Append(nil)); got != result {
			t.Errorf("got  %s\nwant %s", got, result)
		}
	}
	for result, want := range map[string]string{
		`[]`:                                               "result: must be an object, not an array",
		`{"resultType":"input_required"}`:                  "result: neither inputRequests nor requestState",
		`{"requestState":{}}`:                              "requestState: must be a string, not an object",
		`{"inputRequests":[]}`:                             "inputRequests: must be an object, not an array",
		`{"inputRequests":{"a":7}}`:                        `inputRequests: "a": must be an object, not a number`,
		`{"inputRequests":{"a":{"params":{}}}}`:            `inputRequests: "a": no method`,
		`{"inputRequests":{"a":{"method":7}},"b":{}}`:      `inputRequests: "a": no method`,
		`{"inputRequests":{"a":{"method":"roots/list"}},}`: "result: invalid JSON at line 1, column 48: a key must be a string",
	} {
		if _, err := ParseInputRequired([]byte(result)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", result, err, want)
		}
	}
}

func TestPushedRequest(t *testing.T) {
	for _, tc := range []struct{ method, params, want string }{
		{MethodRootsList, ``, `{}`},
		{MethodElicit, `{"mode":"url","elicitationId":"5","url":"https://a","message":"m"}`, `{"mode":"url","url":"https://a","message":"m"}`},
		{MethodElicit, `{"message":"m","_meta":{"progressToken":1,"a":2},"task":{"ttl":1}}`, `{"message":"m","_meta":{"a":2}}`},
		{MethodCreateMessage, `{"_meta":{"progressToken":1},"maxTokens":1e2,"elicitationId":3}`, `{"maxTokens":1e2,"elicitationId":3}`},
	} {
		r, err := PushedRequest("k", tc.method, []byte(tc.params))
		if err != nil || r.Key != "k" || r.Method != tc.method || string(r.Params) != tc.want {
			t.Errorf("%s %s became %s, %v, want %s", tc.method, tc.params, r.Params, err, tc.want)
		}
	}
	if _, err := PushedRequest("k", MethodElicit, []byte("[]")); err == nil {
		t.Error("no error of params that are no object")
	}
}

func TestAskParams(t *testing.T) {
	for _, tc := range []struct{ method, params, want string }{
		{MethodElicit, `{"mode":"url","url":"https://a"}`, `{"elicitationId":"l1.s.1","mode":"url","url":"https://a"}`},
		{MethodElicit, `{"mode":"url","elicitationId":"5"}`, `{"mode":"url","elicitationId":"5"}`},
		{MethodElicit, `{"mode":"form","message":"m"}`, `{"mode":"form","message":"m"}`},
		{MethodRootsList, ``, ``},
	} {
		if got := AskParams(InputRequest{Method: tc.method, Params: []byte(tc.params)}, "l1.s.1"); string(got) != tc.want {
			t.Errorf("%s became %s, want %s", tc.params, got, tc.want)
		}
	}
}

func TestDeclined(t *testing.T) {
	for params, want := range map[string]bool{
		`{}`: false,
		`{"inputResponses":{"a":{"action":"accept"},"b":{"role":"assistant"}}}`: false,
		`{"inputResponses":{"a":{"action":"accept"},"b":{"action":"decline"}}}`: true,
		`{"inputResponses":{"a":{"action":"cancel"}}}`:                          true,
	} {
		if r, err := ParseInputResponses([]byte(params)); err != nil || r.Declined() != want {
			t.Errorf("%s: %+v, %v, want %v", params, r, err, want)
		}
	}
}

func TestRequiredURLs(t *testing.T) {
	requests, ok := RequiredURLs([]byte(`{"code":-32042,"message":"This request requires more information.","data":{"elicitations":[
		{"mode":"url","elicitationId":"550e8400","url":"https://mcp.example.com/connect?elicitationId=550e8400","message":"Authorization is required."},
		7, {"url":"https://b","message":"m"}]}}`), 3)
	got := (&InputRequired{Requests: requests, State: []byte(`"s"`)}).Append(nil)
	want := `{"resultType":"input_required","inputRequests":{` +
		`"input-3":{"method":"elicitation/create","params":{"mode":"url","url":"https://mcp.example.com/connect?elicitationId=550e8400","message":"Authorization is required."}},` +
		`"input-4":{"method":"elicitation/create","params":{"mode":"url","url":"https://b","message":"m"}}},"requestState":"s"}`
	if !ok || string(got) != want {
		t.Errorf("%v\ngot  %s\nwant %s", ok, got, want)
	}
	for _, other := range []string{
		`{"code":-32042}`, `{"code":-32042,"data":{}}`, `{"code":-32042,"data":{"elicitations":[]}}`, `{"code":-32042,"data":7}`,
		`{"code":-32042,"data":{"elicitations":{}}}`, `{"code":-32602,"data":{"elicitations":[{"url":"https://b"}]}}`, `7`,
	} {
		if requests, ok := RequiredURLs([]byte(other), 1); ok {
			t.Errorf("%s: %v", other, requests)
		}
	}
}

func TestInputResponses(t *testing.T) {
	const params = `{"inputResponses":{"github_login":{"action":"accept","content":{"name":"octocat"}},"n":{"x":9007199254740993}},"requestState":"s","name":"get_weather"}`
	r, err := ParseInputResponses([]byte(params))
	if err != nil || !r.Retries() || string(r.State) != `"s"` || string(r.Result("n")) != `{"x":9007199254740993}` || r.Result("x") != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	for request, want := range map[string]string{
		`{"name":"get_weather"}`: params,
		``:                       params[:len(params)-len(`,"name":"get_weather"}`)] + "}",
		`{"requestState":"old","name":"get_weather","inputResponses":{"old":{}}}`: `{"requestState":"s","name":"get_weather","inputResponses":` + params[len(`{"inputResponses":`):len(params)-len(`,"requestState":"s","name":"get_weather"}`)] + `}`,
	} {
		got, err := WithInputResponses([]byte(request), r)
		if err != nil || string(got) != want {
			t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
		}
	}
	if got, err := WithInputResponses([]byte(params), &InputResponses{}); err != nil || string(got) != `{"name":"get_weather"}` {
		t.Errorf("without: %s, %v", got, err)
	}
	for _, none := range []string{``, `null`, `{}`, `{"inputResponses":null,"requestState":null}`, `{"inputResponses":{}}`} {
		if r, err := ParseInputResponses([]byte(none)); err != nil || r.Retries() {
			t.Errorf("%s: %+v, %v", none, r, err)
		}
	}
	for params, want := range map[string]string{
		`{"inputResponses":[]}`:        "inputResponses: must be an object, not an array",
		`{"inputResponses":{"a":"b"}}`: `inputResponses: "a" must be an object, not a string`,
		`{"requestState":7}`:           "requestState must be a string, not a number",
	} {
		if _, err := ParseInputResponses([]byte(params)); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", params, err, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	identity := func(method, params string) string {
		t.Helper()
		id, err := AppendIdentity(nil, method, []byte(params))
		if err != nil {
			t.Fatal(err)
		}
		return string(id)
	}
	first := identity(MethodToolsCall, `{"name":"a","arguments":{"x": 1,"y":[1,2]},`+modernMeta+`}`)
	if want := "tools/call\x00" + `{"arguments":{"x":1,"y":[1,2]},"name":"a"}`; first != want {
		t.Errorf("identity %q, want %q", first, want)
	}
	for _, same := range []string{
		`{"inputResponses":{"k":{}},"requestState":"s","name":"a","arguments":{"x":1,"y":[1,2]}}`,
		`{ "arguments" : {"x":1, "y":[1, 2]}, "n\u0061me" : "a", "requestState":"s" }`,
	} {
		if got := identity(MethodToolsCall, same); got != first {
			t.Errorf("%s has identity %q, want %q", same, got, first)
		}
	}
	for _, other := range []string{`{"name":"b","arguments":{"x":1,"y":[1,2]}}`, `{"name":"a","arguments":{"x":1,"y":[12]}}`, `{"name":"a"}`, ``} {
		if got := identity(MethodToolsCall, other); got == first {
			t.Errorf("%s has the same identity", other)
		}
	}
	if identity(MethodPromptsGet, `{"name":"a"}`) == identity(MethodToolsCall, `{"name":"a"}`) {
		t.Error("two methods have the same identity")
	}
	if identity("m", "") != identity("m", "{}") || identity("m", "null") != identity("m", `{"_meta":{}}`) {
		t.Error("no params and empty ones differ")
	}
}

func TestCapabilities(t *testing.T) {
	for _, tc := range []struct {
		method, params, capabilities string
		need                         Capability
		has                          bool
	}{
		{MethodElicit, `{"message":"m"}`, `{"elicitation":{}}`, CapabilityElicitForm, true},
		{MethodElicit, `{"mode":"form"}`, `{"elicitation":{"form":{},"url":{}}}`, CapabilityElicitForm, true},
		{MethodElicit, `{"mode":"form"}`, `{"elicitation":{"url":{}}}`, CapabilityElicitForm, false},
		{MethodElicit, `{"mode":"url"}`, `{"elicitation":{"form":{},"url":{}}}`, CapabilityElicitURL, true},
		{MethodElicit, `{"mode":"url"}`, `{"elicitation":{}}`, CapabilityElicitURL, false},
		{MethodElicit, `{}`, `{}`, CapabilityElicitForm, false},
		{MethodElicit, `{}`, ``, CapabilityElicitForm, false},
		{MethodElicit, `{}`, `{"elicitation":null}`, CapabilityElicitForm, false},
		{MethodCreateMessage, `{"includeContext":"allServers"}`, `{"sampling":{}}`, CapabilitySampling, true},
		{MethodCreateMessage, `{"tools":[]}`, `{"sampling":{}}`, CapabilitySamplingTools, false},
		{MethodCreateMessage, `{"toolChoice":{}}`, `{"sampling":{"tools":{}}}`, CapabilitySamplingTools, true},
		{MethodRootsList, ``, `{"roots":{"listChanged":true}}`, CapabilityRoots, true},
		{MethodRootsList, ``, `{"sampling":{}}`, CapabilityRoots, false},
	} {
		need := Needs(tc.method, []byte(tc.params))
		if need != tc.need || Declares([]byte(tc.capabilities), need) != tc.has {
			t.Errorf("%s %s needs %q of %s, want %q and %v", tc.method, tc.params, need, tc.capabilities, tc.need, tc.has)
		}
	}
	if need := Needs("other/method", nil); need != "" {
		t.Errorf("an unknown method needs %q", need)
	}
	missing := Missing([]byte(`{"sampling":{}}`), CapabilityElicitURL, CapabilitySampling, CapabilitySamplingTools, CapabilityRoots, "")
	e := MissingCapability(missing)
	want := `{"code":-32021,"message":"Server requires the elicitation.url, sampling.tools, roots capability for this request",` +
		`"data":{"requiredCapabilities":{"roots":{},"sampling":{"tools":{}},"elicitation":{"url":{}}}}}`
	if got := string(e.Append(nil)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	e = MissingCapability([]Capability{CapabilityElicitForm, CapabilityElicitURL})
	if want := `{"requiredCapabilities":{"elicitation":{"url":{},"form":{}}}}`; string(e.Data) != want {
		t.Errorf("got %s, want %s", e.Data, want)
	}
}
