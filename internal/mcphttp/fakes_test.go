package mcphttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// endpoint is a View of fixed content.
type endpoint struct {
	idle  bool // its tools are not known: it never ran
	info  fleet.ViewInfo
	lists map[string]string // items by method
	tools map[string]fleet.Destination
	only  fleet.Destination // "" for one that merges servers
	at    fleet.Destination // of all resources; "": only
	// prefix is what the URIs of resources have here.
	prefix    string
	resources []fleet.Destination // where any may be; nil: at only
}

// errIdle is the error of a look-up that needs the server old, which never ran.
var errIdle = idleError{}

type idleError struct{}

func (idleError) Error() string           { return "server \"old\" is idle" }
func (idleError) Wakes() fleet.ServerName { return "old" }

func (e *endpoint) Info() *fleet.ViewInfo { return &e.info }

func (e *endpoint) List(method string, _ bool) *fleet.ViewList {
	items, ok := e.lists[method]
	if !ok {
		return nil
	}
	sum := sha256.Sum256([]byte(items))
	return &fleet.ViewList{Items: []byte(items), Hash: hex.EncodeToString(sum[:]), Hint: fleet.CacheHint{TTLMs: 7, Scope: "public"}}
}

func (e *endpoint) Tool(name string) (fleet.Destination, error) {
	if e.idle {
		return fleet.Destination{}, errIdle
	}
	if d, ok := e.tools[name]; ok {
		return d, nil
	}
	return fleet.Destination{}, fmt.Errorf("%w %q", fleet.ErrUnknownTool, name)
}

func (e *endpoint) Prompt(name string) (fleet.Destination, error) {
	d := e.only
	d.Name = name
	return d, nil
}

func (e *endpoint) Resources(uri string) ([]fleet.Destination, error) {
	if e.resources != nil {
		return e.resources, nil
	}
	d := e.only
	if e.at.Server != "" {
		d = e.at
	}
	d.Name = strings.TrimPrefix(uri, e.prefix)
	return []fleet.Destination{d}, nil
}

func (e *endpoint) Ref(_, name string) (fleet.Destination, error) { return e.Prompt(name) }

func (e *endpoint) At(server fleet.ServerName) (fleet.Destination, bool) {
	for _, d := range e.tools {
		if d.Server == server {
			return d, true
		}
	}
	return fleet.Destination{}, false
}

func (e *endpoint) Servers() []fleet.ServerName { return []fleet.ServerName{"old"} }

func (e *endpoint) URI(_ fleet.ServerName, own string) string { return e.prefix + own }

func (e *endpoint) Only() (fleet.Destination, bool) { return e.only, e.only.Server != "" }

// newEndpoint returns the endpoint of a legacy server with the tools echo and read, or
// of a modern one.
func newEndpoint(name fleet.ServerName, modern bool) *endpoint {
	e := &endpoint{
		info: fleet.ViewInfo{
			Modern: modern, Protocol: mcp.Version20251125, Versions: []string{mcp.Version20260728}, ServerInfo: []byte(`{"name":"srv","version":"1"}`),
			Capabilities: []byte(`{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true}}`), Instructions: "be nice",
		},
		lists: map[string]string{
			mcp.MethodToolsList: `[{"name":"echo"},{"name":"read"}]`, mcp.MethodResourcesList: `[]`, mcp.MethodResourceTemplates: `[]`, mcp.MethodPromptsList: `[]`,
		},
		tools: make(map[string]fleet.Destination),
		only:  fleet.Destination{Server: name, Modern: modern},
	}
	for _, tool := range []string{"echo", "read"} {
		e.tools[tool] = fleet.Destination{Server: name, Modern: modern, Name: tool, Idempotent: tool == "read"}
	}
	return e
}

// offers are the endpoints of the tests: the servers old and new, the root, where the
// tools of old are called old__echo and so on, the server own, whose sessions have
// replicas to themselves, and the server young, which is not known yet.
type offers struct {
	notice.Board

	mu  sync.Mutex
	all map[fleet.Scope]*endpoint
}

func newOffers() *offers {
	root := newEndpoint("old", false)
	root.only = fleet.Destination{}
	for _, tool := range []string{"echo", "read"} {
		root.tools["old__"+tool] = root.tools[tool]
		delete(root.tools, tool)
	}
	own := newEndpoint("own", false)
	own.only.PerSession = true
	for name, d := range own.tools {
		d.PerSession = true
		own.tools[name] = d
	}
	return &offers{all: map[fleet.Scope]*endpoint{"old": newEndpoint("old", false), "new": newEndpoint("new", true), "": root, "own": own}}
}

func (o *offers) View(scope fleet.Scope) (View, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.all[scope]; e != nil {
		return e, nil
	}
	if scope == "young" {
		return nil, fmt.Errorf("%w: server \"young\": image is being pulled", fleet.ErrCatalogueUnknown)
	}
	return nil, fmt.Errorf("%w %q", fleet.ErrUnknownServer, scope)
}

// setIdle says whether the tools of the server old are not known, because it never ran.
func (o *offers) setIdle(idle bool) {
	o.mu.Lock()
	next := *o.all["old"]
	next.idle = idle
	o.all["old"] = &next
	o.mu.Unlock()
	o.Post()
}

// remove removes an endpoint.
func (o *offers) remove(scope fleet.Scope) {
	o.mu.Lock()
	delete(o.all, scope)
	o.mu.Unlock()
	o.Post()
}

// change replaces a list.
func (o *offers) change(scope fleet.Scope, method, items string) {
	o.mu.Lock()
	next := *o.all[scope]
	next.lists = map[string]string{}
	for k, v := range o.all[scope].lists {
		next.lists[k] = v
	}
	next.lists[method] = items
	o.all[scope] = &next
	o.mu.Unlock()
	o.Post()
}

// routed is a router that runs a function and records the last call. Without a function
// it answers with the params.
type routed struct {
	full  error  // of Admit
	start func() // an idle server; nil: there is none

	mu   sync.Mutex
	last fleet.Call
	f    func(ctx context.Context, c fleet.Call) (fleet.CallResult, error)
}

func (r *routed) Admit(fleet.ServerName) error { return r.full }

func (r *routed) Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	r.mu.Lock()
	r.last = c
	r.mu.Unlock()
	if r.f == nil {
		return fleet.CallResult{Result: c.Params}, nil
	}
	return r.f(ctx, c)
}

func (r *routed) Await(context.Context, fleet.ServerName, time.Duration, time.Time) error {
	if r.start != nil {
		r.start()
		return nil
	}
	return errors.New("nothing is idle")
}

// plain is a Sealer that seals nothing.
type plain struct{}

func (plain) Seal(purpose string, text []byte) (string, error) {
	return purpose + "-" + hex.EncodeToString(text), nil
}

func (s plain) SealName(purpose string, text []byte) (string, error) { return s.Seal(purpose, text) }

func (plain) Open(purpose, token string) ([]byte, error) {
	text, ok := strings.CutPrefix(token, purpose+"-")
	if !ok {
		return nil, errors.New("invalid")
	}
	return hex.DecodeString(text)
}

// kept are streams that workers keep, by id.
type kept struct {
	mu        sync.Mutex
	messages  map[fleet.StreamID][]fleet.Message
	owner     string
	err       error // of ReadStream
	reads     []fleet.ReadRequest
	answers   []fleet.Answer
	cancelled []fleet.StreamID
	reason    string   // of the last of them
	sent      []string // to replicas of sessions
	gone      bool     // these have ended
	claimed   uint64
	more      chan fleet.Message // of any stream, later
	end       chan struct{}      // ends a stream of a session, as its replica has ended
}

func (k *kept) ReadStream(ctx context.Context, worker fleet.LifeID, r fleet.ReadRequest, on func([]fleet.Message) error) error {
	k.mu.Lock()
	k.reads = append(k.reads, r)
	messages, owner, err := k.messages[r.Stream], k.owner, k.err
	if r.Claim && r.After <= k.claimed {
		err = fleet.ErrClaimed
	} else if r.Claim {
		k.claimed = r.After
	}
	k.mu.Unlock()
	if err != nil {
		return err
	}
	if messages == nil || owner != r.Owner || worker != "w1" {
		return fmt.Errorf("%w %s", fleet.ErrUnknownStream, r.Stream)
	}
	if err := on(nil); err != nil {
		return err
	}
	for _, m := range messages {
		if m.Seq > r.After {
			if err := on([]fleet.Message{m}); err != nil {
				return err
			}
		}
		if m.Kind == fleet.MessageReply {
			return nil
		}
	}
	for {
		select {
		case m := <-k.more:
			if err := on([]fleet.Message{m}); err != nil || m.Kind == fleet.MessageReply {
				return err
			}
		case <-k.end:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *kept) SendToSession(_ context.Context, session fleet.SessionID, replica fleet.ReplicaID, message []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return fleet.ErrUnknownReplica
	}
	k.sent = append(k.sent, string(replica)+" "+string(message))
	return nil
}

func (k *kept) LifeOf(fleet.NodeID) fleet.LifeID { return "w1" }

func (k *kept) Answer(_ context.Context, worker fleet.LifeID, a fleet.Answer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers = append(k.answers, a)
	if worker != "w1" {
		return fleet.ErrWorkerLost
	}
	return nil
}

func (k *kept) CancelCalls(_ context.Context, stream fleet.StreamID, _, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reason = reason
	k.cancelled = append(k.cancelled, stream)
}

// told passes on news that a test has.
type told struct {
	mu    sync.Mutex
	last  int
	on    map[int]func(fleet.News)
	wants map[int]map[fleet.ServerName][]string
	lag   time.Duration // until wants are in effect
}

func (n *told) Listen(on func(fleet.News)) (set func(map[fleet.ServerName][]string) <-chan struct{}, cancel func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.on == nil {
		n.on, n.wants = map[int]func(fleet.News){}, map[int]map[fleet.ServerName][]string{}
	}
	n.last++
	key := n.last
	n.on[key] = on
	set = func(wants map[fleet.ServerName][]string) <-chan struct{} {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.wants[key] = wants
		inEffect := make(chan struct{})
		if n.lag == 0 {
			close(inEffect)
		} else {
			time.AfterFunc(n.lag, func() { close(inEffect) })
		}
		return inEffect
	}
	return set, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.on, key)
		delete(n.wants, key)
	}
}

// changed says that a list of a server has changed.
func (n *told) changed(server fleet.ServerName, method string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, on := range n.on {
		if _, wanted := n.wants[key][server]; wanted {
			on(fleet.News{Server: server, Method: method})
		}
	}
}

// updated says that a resource of a server has changed.
func (n *told) updated(server fleet.ServerName, uri string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, on := range n.on {
		if fleet.CoveringURI(n.wants[key][server], uri) != "" {
			on(fleet.News{Server: server, Method: mcp.MethodResourcesUpdated, Params: fmt.Appendf(nil, `{"uri":%q}`, uri)})
		}
	}
}

type fixture struct {
	handler *web.Mux
	front   *Front
	offers  *offers
	router  *routed
	kept    *kept
	news    *told
	known   *known
	leaving chan struct{}
	peers   map[fleet.LifeID]string // addresses of other controllers
}

func newFixture(change ...func(*web.Config)) *fixture {
	f := &fixture{offers: newOffers(), router: &routed{}, kept: &kept{messages: map[fleet.StreamID][]fleet.Message{}, more: make(chan fleet.Message), end: make(chan struct{})}, news: &told{}, known: newKnown(), leaving: make(chan struct{}), peers: map[fleet.LifeID]string{}}
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry()
	f.front = New(Config{LegacySSE: true, Self: "c1", Peer: func(life fleet.LifeID) string { return f.peers[life] }, Offers: f.offers, Router: f.router, Streams: f.kept, News: f.news, Sessions: f.known, Sealer: plain{}, Leaving: f.leaving, Log: log, Registry: registry})
	edge := web.Config{AllowedHosts: []string{"*"}, Log: log, Registry: registry, Leaving: f.leaving}
	for _, c := range change {
		c(&edge)
	}
	f.handler = web.NewMux(edge, f.front.Routes()...)
	return f
}

// do sends a request. Headers come in pairs; an empty value removes one.
func (f *fixture) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, newRequest(method, path, body, headers...))
	return w
}

func newRequest(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Del(headers[i])
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	return r
}

// open begins a session and returns its id.
func (f *fixture) open(t *testing.T, path, version string) string {
	t.Helper()
	w := f.do("POST", path, fmt.Sprintf(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{"roots":{"listChanged":true}},"clientInfo":{"name":"cli","version":"2"}}}`, version))
	id := w.Header().Get("Mcp-Session-Id")
	if w.Code != 200 || id == "" {
		t.Fatalf("initialize: %d %s", w.Code, w.Body)
	}
	return id
}

const modernMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modern sends a modern request with these further params, such as "name":"x".
func (f *fixture) modern(path, method, params string, headers ...string) *httptest.ResponseRecorder {
	return f.do("POST", path, modernBody(method, params), append([]string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method}, headers...)...)
}

func modernBody(method, params string) string {
	if params != "" {
		params += ","
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","method":%q,"params":{%s%s}}`, method, params, modernMeta)
}

// want checks status and body of an answer.
func want(t *testing.T, w *httptest.ResponseRecorder, status int, body string) {
	t.Helper()
	if got := strings.TrimSpace(w.Body.String()); w.Code != status || got != body {
		t.Errorf("got  %d %s\nwant %d %s", w.Code, got, status, body)
	}
}

// wantError checks an answer with an error.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, id string, code mcp.Code, message string) map[string]any {
	t.Helper()
	var m struct {
		JSONRPC string
		ID      json.RawMessage
		Error   struct {
			Code    mcp.Code
			Message string
			Data    map[string]any
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if w.Code != status || string(m.ID) != id || m.Error.Code != code || !strings.Contains(m.Error.Message, message) || m.JSONRPC != "2.0" {
		t.Errorf("got %d %s, want %d, id %s, code %d, %q", w.Code, w.Body, status, id, code, message)
	}
	return m.Error.Data
}
