package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// world is what the views of a test are made from.
type world map[string]*fleet.Catalogue

func (w world) lookup(hash string) *fleet.Catalogue { return w[hash] }

func (w world) offer(hash string, tools ...string) []Offer {
	c := &fleet.Catalogue{Hash: hash}
	for _, t := range tools {
		if !strings.ContainsAny(t[:1], "{[") {
			t = fmt.Sprintf(`{"name":%q,"inputSchema":{"type":"object"}}`, t)
		}
		c.Tools = append(c.Tools, []byte(t))
	}
	w[hash] = c
	return []Offer{{Revision: 1, Hash: hash}}
}

func threeServers() *Catalogue {
	w := world{}
	c := New(nil)
	c.Update(Source{Default: "main", Lookup: w.lookup, Servers: []Server{
		{Name: "zoo", Offers: w.offer("z", "feed", "count")},
		{Name: "main", DefaultTool: "search", Offers: w.offer("m", "search", "zeta", "alpha", "zoo__count")},
		{Name: "ant", Offers: w.offer("a", "count", "dig", "search")},
	}})
	return c
}

func toolNames(t *testing.T, list []byte) []string {
	t.Helper()
	var got api.Tools
	if err := json.Unmarshal(list, &got); err != nil {
		t.Fatalf("list %s: %v", list, err)
	}
	names := []string{}
	for _, tool := range got.Tools {
		names = append(names, tool.Name)
	}
	return names
}

func TestRootList(t *testing.T) {
	list, err := threeServers().Tools("")
	if err != nil {
		t.Fatal(err)
	}
	// The default server first in its own order, then servers by name; what
	// the default server's zoo__count hides is not listed twice.
	got, want := toolNames(t, list), []string{"search", "zeta", "alpha", "zoo__count", "ant__count", "ant__dig", "ant__search", "zoo__feed"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Every member of a tool is passed on byte for byte, beside ours.
func TestRawValuesArePassedOn(t *testing.T) {
	schema := `{"type":"object", "z":1, "a":12345678901234567890.10,"s":"\u00fc <&>\ud83d\ude00"}`
	own := `"title":"T","inputSchema":` + schema + `,"outputSchema":{"x": 1},"annotations":{"readOnlyHint":true , "q":[]},"_meta":{"a.b/c": 1e400},` +
		`"icons":[ {"src":"data:,\/"} ],"execution":{"taskSupport":"optional"},"x-größe":[1,  2.0],"null":null`
	raw := `{"_first":0,"name":"t\"x","description":null,` + own + `} `
	w := world{}
	c := New(nil)
	c.Update(Source{Lookup: w.lookup, Servers: []Server{{Name: "one", Offers: w.offer("h", raw, `{"name":"plain"}`, `{"no":"name"}`, `[]`, `{"name":"plain","description":"second"}`)}}})
	want := `{"tools":[{"name":"t\"x","description":null,"input_schema":` + schema + `,"output_schema":{"x": 1},"server":"one","_first":0,` + own +
		`},{"name":"plain","description":null,"input_schema":{"type":"object"},"server":"one"}]}`
	for _, server := range []fleet.Scope{"", "one"} {
		got, err := c.Tools(server)
		if err != nil || string(got) != want {
			t.Errorf("Tools(%q) = %s, %v\nwant %s", server, got, err, want)
		}
	}
}

// Programs may count on ours, whatever a server sends.
func TestMembersOfOurs(t *testing.T) {
	const none = `{"type":"object"}`
	for name, tt := range map[string]struct{ raw, want string }{
		"no schema":                  {`{"name":"x"}`, `"description":null,"input_schema":` + none + `,"server":"two"`},
		"null":                       {`{"name":"x","inputSchema":null}`, `"description":null,"input_schema":` + none + `,"server":"two","inputSchema":null`},
		"a boolean":                  {`{"name":"x","inputSchema":true}`, `"description":null,"input_schema":` + none + `,"server":"two","inputSchema":true`},
		"a list":                     {`{"name":"x","inputSchema":[{}]}`, `"description":null,"input_schema":` + none + `,"server":"two","inputSchema":[{}]`},
		"text":                       {`{"name":"x","inputSchema":"{}"}`, `"description":null,"input_schema":` + none + `,"server":"two","inputSchema":"{}"`},
		"an object without type":     {`{"name":"x","inputSchema": {} }`, `"description":null,"input_schema":{},"server":"two","inputSchema":{}`},
		"called like ours":           {`{"server":"evil","input_schema":1,"name":"x","output_schema":2,"description":"d"}`, `"description":"d","input_schema":` + none + `,"server":"two"`},
		"the last of two counts":     {`{"a":1,"name":"y","b":2,"a":3,"name":"x"}`, `"description":null,"input_schema":` + none + `,"server":"two","a":3,"b":2`},
		"a description that is none": {`{"name":"x","description":7}`, `"description":7,"input_schema":` + none + `,"server":"two"`},
	} {
		w := world{}
		c := New(nil)
		c.Update(Source{Default: "one", Lookup: w.lookup, Servers: []Server{{Name: "one", Offers: w.offer("1")}, {Name: "two", Offers: w.offer("2", tt.raw)}}})
		if got, err := c.Tools(""); err != nil || string(got) != `{"tools":[{"name":"two__x",`+tt.want+`}]}` {
			t.Errorf("%s: got %s, %v\nwant %s", name, got, err, tt.want)
		}
		if got, err := c.Tools("two"); err != nil || string(got) != `{"tools":[{"name":"x",`+tt.want+`}]}` {
			t.Errorf("%s, at its own path: got %s, %v\nwant %s", name, got, err, tt.want)
		}
	}
}

func TestResolve(t *testing.T) {
	c := threeServers()
	cases := []struct {
		server fleet.Scope
		name   string
		want   string // server/tool, or words of the error
		kind   error
	}{
		{"", "search", "main/search", nil}, // the default server's, though ant has one too
		{"", "main__search", "main/search", nil},
		{"", "ant__search", "ant/search", nil},
		{"", "dig", "ant/dig", nil}, // unique
		{"", "feed", "zoo/feed", nil},
		{"", "zoo__count", "main/zoo__count", nil}, // the default server's own name
		{"zoo", "count", "zoo/count", nil},
		{"", "count", `offered by several servers; call "ant__count" or "zoo__count"`, fleet.ErrUnknownTool},
		{"", "serach", `unknown tool "serach"; did you mean "search" or "ant__search"?`, fleet.ErrUnknownTool},
		{"", "ant__dgi", `server "ant" has no tool "dgi"; did you mean "dig"?`, fleet.ErrUnknownTool},
		{"", "fed", `did you mean "zoo__feed"?`, fleet.ErrUnknownTool},
		{"", "nothing_like_it", `unknown tool "nothing_like_it"`, fleet.ErrUnknownTool},
		{"", "", `unknown tool ""`, fleet.ErrUnknownTool},
		{"", strings.Repeat("x", 1<<20), `..."`, fleet.ErrUnknownTool},
		{"ant", "ant__dig", `server "ant" has no tool "ant__dig"; did you mean "dig"?`, fleet.ErrUnknownTool},
		{"ants", "dig", `unknown server "ants"; did you mean "ant"?`, fleet.ErrUnknownServer},
	}
	for _, tc := range cases {
		t.Run(fmt.Sprintf("%s.%.20s", tc.server, tc.name), func(t *testing.T) {
			got, err := c.Resolve(tc.server, tc.name)
			if !errors.Is(err, tc.kind) {
				t.Fatalf("error %v, want kind %v", err, tc.kind)
			}
			if err == nil {
				if s := string(got.Server) + "/" + got.Name; s != tc.want {
					t.Errorf("got %s, want %s", s, tc.want)
				}
			} else if want := strings.TrimSuffix(tc.want, `"`); !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
				t.Errorf("got %q, want it to contain %q", err, want)
			}
		})
	}
}

func TestHints(t *testing.T) {
	w := world{}
	c := New(nil)
	c.Update(Source{Lookup: w.lookup, Servers: []Server{{Name: "one", Offers: w.offer("h",
		`{"name":"ro","annotations":{"readOnlyHint":true}}`,
		`{"name":"idem","annotations":{"idempotentHint":true,"readOnlyHint":false}}`,
		`{"name":"text","annotations":{"readOnlyHint":"true"}}`,
		`{"name":"odd","annotations":[true]}`,
		`{"name":"none"}`)}}})
	for name, want := range map[string]bool{"ro": true, "idem": true, "text": false, "odd": false, "none": false} {
		got, err := c.Resolve("", name)
		if err != nil || got.Repeatable() != want {
			t.Errorf("%s: repeatable %v, %v; want %v", name, got.Repeatable(), err, want)
		}
	}
}

func TestDefault(t *testing.T) {
	c := threeServers()
	if got, err := c.Default(""); err != nil || got.Server != "main" || got.Name != "search" {
		t.Errorf(`Default("") = %v, %v`, got, err)
	}
	if _, err := c.Default("ant"); !errors.Is(err, fleet.ErrNoDefaultTool) || err.Error() != `server "ant" has no default tool` {
		t.Errorf("Default(ant): %v", err)
	}
	if _, err := c.Default("nope"); !errors.Is(err, fleet.ErrUnknownServer) {
		t.Errorf("Default(nope): %v", err)
	}
	w := world{}
	c.Update(Source{Lookup: w.lookup, Servers: []Server{
		{Name: "a", DefaultTool: "gone", Offers: w.offer("a", "x")}, {Name: "b", DefaultTool: "y"}}})
	if _, err := c.Default(""); !errors.Is(err, fleet.ErrNoDefaultTool) {
		t.Errorf("without a default server: %v", err)
	}
	if _, err := c.Default("a"); !errors.Is(err, fleet.ErrUnknownTool) {
		t.Errorf("default tool that is not offered: %v", err)
	}
	if _, err := c.Default("b"); !errors.Is(err, fleet.ErrCatalogueUnknown) {
		t.Errorf("default tool of an unknown catalogue: %v", err)
	}
}

func TestUnknownIsNeverEmptyNorNotFound(t *testing.T) {
	c := New(nil)
	if _, err := c.Tools(""); !errors.Is(err, fleet.ErrCatalogueUnknown) {
		t.Errorf("before the first view: %v", err)
	}
	w := world{}
	view := Source{Default: "main", Lookup: w.lookup, Servers: []Server{
		{Name: "main", Reason: "image is being pulled"},
		{Name: "bad", Failed: true, Reason: "exit code 3"},
		{Name: "ok", Offers: w.offer("h", "dig", "other__x")},
	}}
	c.Update(view)
	cases := []struct {
		server fleet.Scope
		name   string
		kind   error
		words  string
	}{
		{"main", "x", fleet.ErrCatalogueUnknown, "image is being pulled"},
		{"bad", "x", fleet.ErrNoReplica, "exit code 3"},
		{"", "main__x", fleet.ErrCatalogueUnknown, `server "main"`},
		{"", "bad__x", fleet.ErrNoReplica, `server "bad"`},
		{"", "ok__x", fleet.ErrUnknownTool, `server "ok"`}, // clearly a known server's
		{"", "ok__dig", nil, ""},
		{"", "dig", fleet.ErrCatalogueUnknown, `server "main"`}, // the default server may have one
		{"", "nope", fleet.ErrCatalogueUnknown, `server "bad"`},
		{"ok", "nope", fleet.ErrUnknownTool, "nope"},
		{"", "ok__dgi", fleet.ErrUnknownTool, `did you mean "dig"?`},
		{"", "ko__dig", fleet.ErrUnknownTool, `did you mean "ok__dig"?`},
		{"", "digg", fleet.ErrCatalogueUnknown, `server "main"`},
	}
	for _, tc := range cases {
		_, err := c.Resolve(tc.server, tc.name)
		if !errors.Is(err, tc.kind) || err != nil && !strings.Contains(err.Error(), tc.words) {
			t.Errorf("Resolve(%q, %q): %v, want kind %v with %q", tc.server, tc.name, err, tc.kind, tc.words)
		}
	}
	list, err := c.Tools("")
	if err != nil {
		t.Fatal(err)
	}
	want := `"unavailable":[{"server":"main","reason":"image is being pulled"},{"server":"bad","reason":"exit code 3"}]}`
	if got := string(list); !strings.HasSuffix(got, want) || fmt.Sprint(toolNames(t, list)) != "[ok__dig ok__other__x]" {
		t.Errorf("got %s, want it to end in %s", got, want)
	}

	view.Servers = view.Servers[:2]
	c.Update(view)
	if _, err := c.Tools(""); !errors.Is(err, fleet.ErrCatalogueUnknown) {
		t.Errorf("no server known: %v", err)
	}
	view.Servers = view.Servers[1:]
	c.Update(view)
	if _, err := c.Tools(""); !errors.Is(err, fleet.ErrNoReplica) {
		t.Errorf("no server can start: %v", err)
	}
	c.Update(Source{})
	if list, err := c.Tools(""); err != nil || string(list) != `{"tools":[]}` {
		t.Errorf("no server at all: %s, %v", list, err)
	}
}

// A mistyped name is reported though another server cannot start.
func TestMistypedWhileAServerCannotStart(t *testing.T) {
	w := world{}
	bad := Server{Name: "bad", Failed: true, Reason: "exit code 3"}
	for _, def := range []fleet.ServerName{"", "good"} {
		for _, starting := range []bool{false, true} {
			bad.Failed = !starting
			c := New(nil)
			c.Update(Source{Default: def, Lookup: w.lookup, Servers: []Server{bad, {Name: "good", Offers: w.offer("g", "read_file", "search")}}})
			shown := map[fleet.ServerName]string{"": "good__search", "good": "search"}[def]
			for name, want := range map[string]string{
				"serach":       `unknown tool "serach"; did you mean "` + shown + `"?`,
				"good__serach": `server "good" has no tool "serach"; did you mean "search"?`,
				"good__zzz":    `server "good" has no tool "zzz"`,
				"godo__search": `did you mean "` + shown + `"`,
			} {
				if _, err := c.Resolve("", name); !errors.Is(err, fleet.ErrUnknownTool) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "bad") {
					t.Errorf("default %q, %s: got %v, want %s", def, name, err, want)
				}
			}
			kind := fleet.ErrNoReplica
			if starting {
				kind = fleet.ErrCatalogueUnknown
			}
			for _, name := range []string{"zzz", "bad__serach"} { // may be its tools
				if _, err := c.Resolve("", name); !errors.Is(err, kind) || !strings.HasSuffix(err.Error(), `: server "bad": exit code 3`) {
					t.Errorf("default %q, %s: got %v, want %v", def, name, err, kind)
				}
			}
		}
	}
}

// The error about servers that cannot start is short and has the cause.
func TestReasonsAreShort(t *testing.T) {
	w := world{}
	view := Source{Default: "good", Lookup: w.lookup, Servers: []Server{{Name: "good", Offers: w.offer("g", "search")}}}
	for i := range 20 {
		view.Servers = append(view.Servers, Server{Name: fleet.ServerName(fmt.Sprintf("bad-%02d", i)), Failed: true, Reason: "exit code 3:\n" + strings.Repeat("wörter  ", 1000)})
	}
	c := New(nil)
	c.Update(view)
	_, err := c.Resolve("", "zzz")
	if !errors.Is(err, fleet.ErrNoReplica) {
		t.Fatal(err)
	}
	text := err.Error()
	if !strings.Contains(text, `: server "bad-00": exit code 3: wörter wörter `) || !strings.HasSuffix(text, `...; and 17 more`) || len(text) > 1000 {
		t.Errorf("got %d bytes: %s", len(text), text)
	}
	list, err := c.Tools("")
	var tools api.Tools
	if err != nil || json.Unmarshal(list, &tools) != nil || len(tools.Unavailable) != 20 {
		t.Fatalf("got %s, %v", list, err)
	}
	for _, u := range tools.Unavailable {
		if !strings.HasPrefix(u.Reason, "exit code 3: wörter") || len([]rune(u.Reason)) > maxReason+3 {
			t.Errorf("%s: %d bytes: %s", u.Server, len(u.Reason), u.Reason)
		}
	}
}

func TestUpdates(t *testing.T) {
	w := world{}
	c := New(nil)
	update := func(servers ...Server) { c.Update(Source{Default: "s", Lookup: w.lookup, Servers: servers}) }
	names := func() string {
		list, err := c.Tools("s")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(toolNames(t, list))
	}
	old, next := w.offer("old", "a")[0], w.offer("next", "a", "b")[0]
	update(Server{Name: "s", Offers: []Offer{old, old}})
	before := c.snap.Load()
	update(Server{Name: "s", Offers: []Offer{old}})
	update(Server{Name: "s", Reason: "all gone", Failed: true}) // the last known stays
	if c.snap.Load() != before {
		t.Error("a view with nothing new made a new snapshot")
	}
	if got := names(); got != "[a]" {
		t.Errorf("without a replica: %s", got)
	}
	update(Server{Name: "s", Offers: []Offer{next, old}})
	if got := names(); got != "[a]" {
		t.Errorf("a tie: %s, want what was shown", got)
	}
	update(Server{Name: "s", Offers: []Offer{next, old, next}})
	if got := names(); got != "[a b]" {
		t.Errorf("most replicas changed: %s", got)
	}
	old.Revision = 2 // a new revision counts however few its replicas are
	update(Server{Name: "s", Offers: []Offer{next, old, next}})
	if got := names(); got != "[a]" {
		t.Errorf("new revision: %s", got)
	}
	update(Server{Name: "s", Offers: []Offer{{Revision: 3, Hash: "not reported yet"}, {Revision: 4}}})
	if got := names(); got != "[a]" {
		t.Errorf("unknown hash: %s", got)
	}
	update(Server{Name: "t"})
	if _, err := c.Tools("s"); !errors.Is(err, fleet.ErrUnknownServer) {
		t.Errorf("removed server: %v", err)
	}
}

func TestReadersDuringUpdates(t *testing.T) {
	w := world{}
	one, two := w.offer("1", "x"), w.offer("2", "x", "y")
	c := New(nil)
	c.Update(Source{Lookup: w.lookup, Servers: []Server{{Name: "s", Offers: one}}})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				if _, err := c.Resolve("", "x"); err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Tools("")
			}
		})
	}
	for i := range 500 {
		c.Update(Source{Lookup: w.lookup, Servers: []Server{{Name: "s", Offers: [][]Offer{one, two}[i%2]}}})
	}
	wg.Wait()
}

func TestResolveDoesNotAllocate(t *testing.T) {
	c := threeServers()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Resolve("", "ant__dig"); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// While the tools of idle servers are needed, errors name the one to start next.
func TestIdle(t *testing.T) {
	w := world{}
	idle := func(name fleet.ServerName) Server {
		return Server{Name: name, Wakes: true, Reason: "idle: a call starts it"}
	}
	ran := Server{Name: "ran", Wakes: true, Offers: w.offer("r", "count", "dig")}
	starting, failed := Server{Name: "starting", Reason: "1 starting"}, idle("failed")
	failed.Failed, failed.Reason = true, "exit code 3"
	switchedOff := idle("a")
	switchedOff.Tools.Deny = []string{"drop"}
	resolve := func(server fleet.Scope, tool string) func(*Catalogue) error {
		return func(c *Catalogue) error { _, err := c.Resolve(server, tool); return err }
	}
	tools := func(server fleet.Scope) func(*Catalogue) error {
		return func(c *Catalogue) error { _, err := c.Tools(server); return err }
	}
	for _, tt := range []struct {
		name    string
		def     fleet.ServerName
		servers []Server
		ask     func(*Catalogue) error
		wakes   fleet.ServerName
		err     error // nil: there is an answer
	}{
		{"at its path", "", []Server{idle("a"), ran}, resolve("a", "x"), "a", fleet.ErrCatalogueUnknown},
		{"with its name", "", []Server{idle("a"), ran}, resolve("", "a__x"), "a", fleet.ErrCatalogueUnknown},
		{"a bare name that may be the default server's", "b", []Server{idle("a"), idle("b"), ran}, resolve("", "count"), "b", fleet.ErrCatalogueUnknown},
		{"a bare name that may be the lone server's", "", []Server{idle("a")}, resolve("", "x"), "a", fleet.ErrCatalogueUnknown},
		{"a bare name that may be any server's", "ran", []Server{idle("b"), idle("a"), ran}, resolve("", "unheard-of"), "a", fleet.ErrCatalogueUnknown},
		{"a bare name near to a known one", "ran", []Server{idle("a"), ran}, resolve("", "coumt"), "", fleet.ErrUnknownTool},
		{"the default tool", "", []Server{{Name: "a", Wakes: true, DefaultTool: "x"}}, func(c *Catalogue) error { _, err := c.Default("a"); return err }, "a", fleet.ErrCatalogueUnknown},
		{"a tool that is switched off", "", []Server{switchedOff}, resolve("a", "drop"), "", fleet.ErrUnknownTool},
		{"it has run", "", []Server{idle("a"), ran}, resolve("ran", "x"), "", fleet.ErrUnknownTool},
		{"it did not start", "", []Server{failed, ran}, resolve("failed", "x"), "", fleet.ErrNoReplica},
		{"one did not start, another may", "ran", []Server{failed, idle("idle"), ran}, resolve("", "unheard-of"), "idle", fleet.ErrCatalogueUnknown},
		{"another is on its way anyhow", "ran", []Server{starting, idle("a"), ran}, resolve("", "unheard-of"), "", fleet.ErrCatalogueUnknown},
		{"its tools", "", []Server{idle("a"), ran}, tools("a"), "a", fleet.ErrCatalogueUnknown},
		{"all tools of a lone server", "", []Server{idle("a"), {Name: "b", Stopped: true}}, tools(""), "a", fleet.ErrCatalogueUnknown},
		{"all tools of several, none of which runs", "", []Server{idle("a"), idle("b")}, tools(""), "", nil},
		{"all tools, and one is on its way", "", []Server{idle("a"), starting}, tools(""), "", fleet.ErrCatalogueUnknown},
		{"all tools, and some are known", "", []Server{idle("a"), ran}, tools(""), "", nil},
	} {
		c := New(nil)
		c.Update(Source{Default: tt.def, Lookup: w.lookup, Servers: tt.servers})
		err := tt.ask(c)
		var wakes fleet.ServerName
		if idle, ok := errors.AsType[interface {
			error
			Wakes() fleet.ServerName
		}](err); ok {
			wakes = idle.Wakes()
		}
		if wakes != tt.wakes || !errors.Is(err, tt.err) {
			t.Errorf("%s: wakes %q, error %v; want %q, %v", tt.name, wakes, err, tt.wakes, tt.err)
		}
	}
}

// A notice comes when lookups have other results.
func TestSubscribe(t *testing.T) {
	w := world{}
	c := New(nil)
	look, cancel := c.Subscribe()
	defer cancel()
	noticed := func() bool {
		select {
		case <-look:
			return true
		default:
			return false
		}
	}
	view := Source{Lookup: w.lookup, Servers: []Server{{Name: "a", Wakes: true}}}
	if c.Update(view); !noticed() {
		t.Error("no notice of the first view")
	}
	if c.Update(view); noticed() {
		t.Error("a notice of the same view")
	}
	view.Servers[0].Wakes = false
	if c.Update(view); !noticed() {
		t.Error("no notice that it is on its way")
	}
	view.Servers[0].Offers = w.offer("h", "x")
	if c.Update(view); !noticed() {
		t.Error("no notice of the tools")
	}
	view.Servers[0].Reason = "idle: a call starts it"
	if c.Update(view); noticed() {
		t.Error("a notice of a reason that nobody sees")
	}
}

// A server that is stopped by hand is neither listed nor shown as unavailable, and
// its calls fail with that reason.
func TestStopped(t *testing.T) {
	w := world{}
	servers := []Server{
		{Name: "ant", Offers: w.offer("a", "count", "dig", "walk")},
		{Name: "bee", Offers: w.offer("b", "count", "fly")},
		{Name: "cow"}, // never ran
	}
	c := New(nil)
	c.Update(Source{Lookup: w.lookup, Servers: servers})
	servers[1].Stopped, servers[1].Offers = true, nil
	servers[2].Stopped = true
	c.Update(Source{Lookup: w.lookup, Servers: servers})

	list, err := c.Tools("")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(toolNames(t, list)); got != "[ant__count ant__dig ant__walk]" || strings.Contains(string(list), "unavailable") {
		t.Errorf("list %s", list)
	}
	for name, want := range map[string]fleet.ServerName{"count": "ant", "bee__count": "bee", "fly": "bee", "dig": "ant"} {
		if tool, err := c.Resolve("", name); err != nil || tool.Server != want {
			t.Errorf("%s resolves to %v, %v; want %s", name, tool.Server, err, want)
		}
	}
	if tool, err := c.Resolve("bee", "fly"); err != nil || tool.Name != "fly" {
		t.Errorf("at its own path: %v, %v", tool, err)
	}
	for _, ask := range []func() error{
		func() error { _, err := c.Resolve("cow", "moo"); return err },
		func() error { _, err := c.Resolve("", "cow__moo"); return err },
		func() error { _, err := c.Tools("cow"); return err },
		func() error { _, err := c.Tools("bee"); return err }, // its tools are known
	} {
		if err := ask(); !errors.Is(err, fleet.ErrStopped) {
			t.Errorf("got %v, want that it is stopped", err)
		}
	}
	if _, err := c.Resolve("", "moo"); !errors.Is(err, fleet.ErrUnknownTool) {
		t.Errorf("unknown name: %v", err)
	}

	servers[0].Stopped, servers[0].Offers = true, nil
	c.Update(Source{Lookup: w.lookup, Servers: servers})
	if list, err := c.Tools(""); err != nil || string(list) != `{"tools":[]}` {
		t.Errorf("all stopped: %s, %v", list, err)
	}
}

// Nobody knows the tools of a default server that never ran: a bare name may be
// one of them, so the answer is that it is stopped.
func TestStoppedDefaultThatNeverRan(t *testing.T) {
	c := New(nil)
	c.Update(Source{Servers: []Server{{Name: "z", Stopped: true}}})
	if _, err := c.Resolve("", "echo"); !errors.Is(err, fleet.ErrStopped) {
		t.Errorf("got %v, want that it is stopped", err)
	}
}

// Tools that the spec switches off are neither listed nor found, and come back
// when it says so, with the same replicas.
func TestSwitchedOff(t *testing.T) {
	w := world{}
	c := New(nil)
	offers := map[fleet.ServerName][]Offer{"main": w.offer("m", "search", "delete", "zeta"), "ant": w.offer("a", "dig", "drop")}
	update := func(main, ant fleet.Tools) {
		c.Update(Source{Default: "main", Lookup: w.lookup, Servers: []Server{
			{Name: "main", DefaultTool: "search", Offers: offers["main"], Tools: main},
			{Name: "ant", Offers: offers["ant"], Tools: ant},
		}})
	}
	check := func(want ...string) {
		t.Helper()
		list, err := c.Tools("")
		if got := toolNames(t, list); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	unknown := func(server fleet.Scope, tool, want string) {
		t.Helper()
		if got, err := c.Resolve(server, tool); !errors.Is(err, fleet.ErrUnknownTool) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: got %+v, %v; want %q", server, tool, got, err, want)
		}
	}
	update(fleet.Tools{Deny: []string{"delete", "no such"}}, fleet.Tools{Allow: []string{"dig"}})
	check("search", "zeta", "ant__dig")
	unknown("", "delete", `tool "delete" of server "main" is switched off by tools.deny`)
	unknown("main", "delete", `tool "delete" of server "main" is switched off by tools.deny`)
	unknown("", "main__delete", "tools.deny")
	unknown("", "ant__drop", `tool "drop" of server "ant" is switched off by tools.allow`)
	unknown("", "drop", `unknown tool "drop"`)
	if list, err := c.Tools("main"); err != nil || fmt.Sprint(toolNames(t, list)) != "[search zeta]" {
		t.Errorf("got %s, %v", list, err)
	}
	// A disabled tool stays off though it is enabled, too. A bare name is unique once
	// the other server hides its tool.
	update(fleet.Tools{Allow: []string{"search", "zeta"}, Deny: []string{"search"}}, fleet.Tools{})
	check("zeta", "ant__dig", "ant__drop")
	if got, err := c.Default(""); !errors.Is(err, fleet.ErrUnknownTool) {
		t.Errorf("default tool: got %+v, %v", got, err)
	}
	update(fleet.Tools{}, fleet.Tools{})
	check("search", "delete", "zeta", "ant__dig", "ant__drop")
}

// A tool that the spec switches off is unknown even before its server has listed its
// tools. A tool that another server may have is not denied.
func TestSwitchedOffBeforeItIsKnown(t *testing.T) {
	w := world{}
	c := New(nil)
	main := Server{Name: "main", DefaultTool: "search", Reason: "it starts", Tools: fleet.Tools{Deny: []string{"delete"}}}
	ant := Server{Name: "ant", Offers: w.offer("a", "dig"), Tools: fleet.Tools{Allow: []string{"dig"}}}
	check := func(server fleet.Scope, tool string, kind error, want string) {
		t.Helper()
		if got, err := c.Resolve(server, tool); !errors.Is(err, kind) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: got %+v, %v; want %q", server, tool, got, err, want)
		}
	}
	update := func() { c.Update(Source{Default: "main", Lookup: w.lookup, Servers: []Server{main, ant}}) }
	update()
	const off = `tool "delete" of server "main" is switched off by tools.deny`
	check("main", "delete", fleet.ErrUnknownTool, off)
	check("", "main__delete", fleet.ErrUnknownTool, off)
	check("", "delete", fleet.ErrUnknownTool, off)
	check("main", "other", fleet.ErrCatalogueUnknown, "it starts")
	check("", "other", fleet.ErrCatalogueUnknown, "it starts")

	main.Tools.Deny = []string{"other"}
	update()
	check("main", "delete", fleet.ErrCatalogueUnknown, "it starts")
	check("main", "other", fleet.ErrUnknownTool, "tools.deny")

	main.Tools.Deny = []string{"dig", "delete"}
	update()
	check("", "dig", fleet.ErrCatalogueUnknown, "it starts") // it is ant's once main's tools are known

	ant.Offers, ant.Reason, ant.Stopped = nil, "replicas is 0", true
	ant.Name = "bee" // nothing is known of it
	update()
	check("bee", "fly", fleet.ErrUnknownTool, `switched off by tools.allow`)
	check("bee", "dig", fleet.ErrStopped, "replicas is 0")
	ant.Stopped = false
	update()
	check("", "delete", fleet.ErrCatalogueUnknown, "it starts") // bee may have one
}

// Replicas that list other tools than those that are shown: theirs are found
// and not listed, unless they are switched off.
func TestToolsOfSomeReplicas(t *testing.T) {
	w := world{}
	most, old := w.offer("most", "a", "b"), w.offer("old", "a", "gone", "off")
	zoo := w.offer("z", "feed")
	c := New(nil)
	show := func(off string, offers ...Offer) {
		c.Update(Source{Default: "main", Lookup: w.lookup, Servers: []Server{
			{Name: "main", Offers: offers, Tools: fleet.Tools{Deny: []string{off}}},
			{Name: "zoo", Offers: zoo},
		}})
	}
	found := func(want bool, tool string, servers ...fleet.Scope) {
		t.Helper()
		for _, s := range servers {
			got, err := c.Resolve(s, tool)
			if want && (err != nil || got.Server != "main" || !strings.HasSuffix(tool, got.Name)) {
				t.Errorf("%q at %q: %+v, %v", tool, s, got, err)
			}
			if !want && !errors.Is(err, fleet.ErrUnknownTool) {
				t.Errorf("%q at %q: %+v, %v; want it unknown", tool, s, got, err)
			}
		}
	}
	show("off", most[0], most[0], old[0])
	found(true, "gone", "", "main")
	found(true, "main__gone", "")
	found(true, "b", "", "main")
	found(false, "off", "", "main")
	list, err := c.Tools("main")
	if got := toolNames(t, list); err != nil || fmt.Sprint(got) != "[a b]" {
		t.Errorf("list %v, %v; want a and b", got, err)
	}
	show("gone", most[0], most[0], old[0])
	found(false, "gone", "", "main")
	found(true, "off", "", "main")
	before := c.snap.Load()
	show("gone", old[0], most[0], most[0])
	if c.snap.Load() != before {
		t.Error("nothing changed, and there is a new snapshot")
	}
	show("", most[0])
	found(false, "gone", "", "main")
	found(false, "off", "", "main")
}
