package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

// echoing is a backend that answers with the parameters.
type echoing struct{}

func (echoing) Call(_ context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error) {
	hooks.Released(0)
	return fleet.CallResult{Result: req.Params}, nil
}

// sleepers are servers, with a real router and a real catalogue, that start when
// calls wait for them.
type sleepers struct {
	*fixture
	router  *route.Router
	offers  *catalogue.Catalogue
	mu      sync.Mutex
	names   []fleet.ServerName
	def     fleet.ServerName
	awake   map[fleet.ServerName]bool
	failed  string        // why none starts
	breaks  string        // why the next start will fail
	known   time.Duration // how much later the catalogue knows
	started []fleet.ServerName
}

func newSleepers(def fleet.ServerName, names ...fleet.ServerName) *sleepers {
	s := &sleepers{router: route.New(route.Config{}), offers: catalogue.New(nil), names: names, def: def, awake: make(map[fleet.ServerName]bool)}
	s.fixture = newFixture(func(c *config) { c.Router, c.Catalogue = s.router, s.offers })
	s.publish()
	return s
}

// publish updates the router, then the catalogue, as package projection does.
func (s *sleepers) publish() {
	s.mu.Lock()
	var routes []route.Server
	var offered []catalogue.Server
	for _, name := range s.names {
		r := route.Server{Name: name, MaxQueued: 10, MaxOngoing: 8, CallTimeout: 40 * time.Second, Down: s.failed}
		o := catalogue.Server{Name: name, DefaultTool: "greet", Wakes: true, Reason: "idle: a call starts it"}
		if s.failed != "" {
			o.Failed, o.Reason = true, s.failed
		}
		if s.awake[name] {
			r.Replicas = []route.Replica{{ID: fleet.ReplicaID(name), Backend: echoing{}}}
			o.Offers = []catalogue.Offer{{Revision: 1, Hash: "h"}}
		}
		routes, offered = append(routes, r), append(offered, o)
	}
	known := s.known
	s.mu.Unlock()
	s.router.Update(routes)
	time.Sleep(known)
	s.offers.Update(catalogue.Source{Default: s.def, Servers: offered, Lookup: func(string) *fleet.Catalogue {
		return &fleet.Catalogue{Hash: "h", Tools: [][]byte{[]byte(`{"name":"greet"}`), []byte(`{"name":"gather"}`)}}
	}})
}

// start starts each server that calls wait for after a second, or has its start
// fail, until ctx ends.
func (s *sleepers) start(ctx context.Context) {
	look, cancel := s.router.Subscribe()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look:
		}
		time.Sleep(time.Second)
		s.mu.Lock()
		s.failed = s.breaks
		for name := range s.router.Queues() {
			if !s.awake[name] {
				s.awake[name] = s.failed == ""
				s.started = append(s.started, name)
			}
		}
		s.mu.Unlock()
		s.publish()
	}
}

// A request that needs the tools of an idle server that never ran has it started,
// waits, and is answered from the fresh catalogue.
func TestAwaken(t *testing.T) {
	for _, tt := range []struct {
		name         string
		def          fleet.ServerName
		servers      []fleet.ServerName
		method, path string
		body         string
		failed       string
		breaks       string
		status       int
		code         string
		text         string // in the answer
		started      string
	}{
		{name: "at its path", servers: []fleet.ServerName{"a", "b"}, method: "POST", path: "/b/call", body: `{"tool_name":"greet","tool_args":{"x":1}}`,
			status: 200, text: `"arguments":{"x":1}`, started: "[b]"},
		{name: "with its name", servers: []fleet.ServerName{"a", "b"}, method: "POST", path: "/call", body: `{"tool_name":"b__greet","tool_args":{}}`,
			status: 200, text: `"name":"greet"`, started: "[b]"},
		{name: "the default server", def: "b", servers: []fleet.ServerName{"a", "b"}, method: "POST", path: "/call", body: `{"tool_name":"greet","tool_args":{}}`,
			status: 200, text: `"name":"greet"`, started: "[b]"},
		{name: "its default tool", def: "b", servers: []fleet.ServerName{"a", "b"}, method: "POST", path: "/call", body: `{"tool_args":{}}`,
			status: 200, text: `"name":"greet"`, started: "[b]"},
		{name: "a lone server", servers: []fleet.ServerName{"a"}, method: "POST", path: "/call", body: `{"tool_name":"gather","tool_args":{}}`,
			status: 200, text: `"name":"gather"`, started: "[a]"},
		{name: "no such tool", servers: []fleet.ServerName{"a"}, method: "POST", path: "/call", body: `{"tool_name":"gathr","tool_args":{}}`,
			status: 404, code: api.CodeUnknownTool, text: `did you mean \"gather\"`, started: "[a]"},
		{name: "it does not start", servers: []fleet.ServerName{"a"}, failed: "exit code 3", method: "POST", path: "/call", body: `{"tool_name":"greet","tool_args":{}}`,
			status: 503, code: api.CodeNoReplica, text: `exit code 3`, started: "[]"},
		{name: "its start fails", servers: []fleet.ServerName{"a"}, breaks: "exit code 3", method: "POST", path: "/call", body: `{"tool_name":"greet","tool_args":{}}`,
			status: 503, code: api.CodeNoReplica, text: `exit code 3`, started: "[a]"},
		{name: "its start fails, and its tools are asked for", servers: []fleet.ServerName{"a"}, breaks: "exit code 3", method: "GET", path: "/a/tools",
			status: 503, code: api.CodeNoReplica, text: `exit code 3`, started: "[a]"},
		{name: "its tools", servers: []fleet.ServerName{"a", "b"}, method: "GET", path: "/b/tools", status: 200, text: `"name":"gather"`, started: "[b]"},
		{name: "the tools of a lone server", servers: []fleet.ServerName{"a"}, method: "GET", path: "/tools", status: 200, text: `"name":"gather"`, started: "[a]"},
		{name: "the tools of all", servers: []fleet.ServerName{"a", "b"}, method: "GET", path: "/tools",
			status: 200, text: `{"tools":[],"unavailable":[{"server":"a","reason":"idle: a call starts it"},`, started: "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				s := newSleepers(tt.def, tt.servers...)
				s.failed, s.breaks, s.known = tt.failed, tt.breaks, 10*time.Millisecond
				s.publish()
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				defer running.Wait()
				defer cancel()
				running.Go(func() { s.start(ctx) })
				synctest.Wait()
				began := time.Now()
				w := s.do(tt.method, tt.path, tt.body)
				if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.text) {
					t.Errorf("%d: %s", w.Code, w.Body)
				}
				if tt.code != "" {
					wantError(t, w.Code, w.Header(), w.Body, tt.status, tt.code, "")
				}
				if took := time.Since(began); took > time.Second+s.known {
					t.Errorf("it took %v", took)
				}
				if got := fmt.Sprint(s.started); got != tt.started {
					t.Errorf("started %s, want %s", got, tt.started)
				}
				if n := s.router.Queues(); len(n) > 0 {
					t.Errorf("%v still wait", n)
				}
			})
		})
	}
}

// A server that does not start in time: calls wait until their deadline, and lists
// for half a minute at most.
func TestAwakenInVain(t *testing.T) {
	for _, tt := range []struct {
		path, body, timeout string
		want                time.Duration
		status              int
		code                string
	}{
		{"/a/call", `{"tool_name":"greet","tool_args":{}}`, "", 40 * time.Second, 504, api.CodeTimeout},
		{"/a/call", `{"tool_name":"greet","tool_args":{}}`, "5s", 5 * time.Second, 504, api.CodeTimeout},
		{"/a/tools", "", "", maxToolsWait, 503, api.CodeNoReplica},
		{"/tools", "", "2s", 2 * time.Second, 503, api.CodeNoReplica},
	} {
		bubble.Test(t, func(t *testing.T) {
			s := newSleepers("", "a")
			method := "GET"
			if tt.body != "" {
				method = "POST"
			}
			began := time.Now()
			w := s.do(method, tt.path, tt.body, "X-Request-Timeout", tt.timeout)
			if took := time.Since(began); took != tt.want {
				t.Errorf("%s took %v, want %v", tt.path, took, tt.want)
			}
			wantError(t, w.Code, w.Header(), w.Body, tt.status, tt.code, "")
		})
	}
}

// Calls that wait for a server's tools fill its queue like any other, and a call's
// whole time counts against its deadline.
func TestAwakenIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newSleepers("", "a")
		answers := make(chan *httptest.ResponseRecorder, 12)
		call := func() { answers <- s.do("POST", "/call", `{"tool_name":"greet","tool_args":{}}`) }
		for range 10 {
			go call()
		}
		synctest.Wait()
		call()
		w := <-answers
		wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeOverloaded, "10 calls are waiting")
		s.mu.Lock()
		s.awake["a"] = true
		s.mu.Unlock()
		s.publish()
		for range 10 {
			if w := <-answers; w.Code != 200 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		}
	})
}

// A request for a server that another controller has created just now waits until
// this one knows it. One that does not exist is refused soon.
func TestNewServer(t *testing.T) {
	for _, tt := range []struct {
		method, path, body string
		late               time.Duration
		want               time.Duration
		status             int
	}{
		{"POST", "/b/call", `{"tool_name":"greet","tool_args":{}}`, 100 * time.Millisecond, 100 * time.Millisecond, 200},
		{"GET", "/b/tools", "", 100 * time.Millisecond, 100 * time.Millisecond, 200},
		{"POST", "/b/call", `{"tool_name":"greet","tool_args":{}}`, time.Second, lookup.NewServerLag, 404},
		{"GET", "/b/tools", "", time.Second, lookup.NewServerLag, 404},
	} {
		bubble.Test(t, func(t *testing.T) {
			s := newSleepers("", "a")
			create := time.AfterFunc(tt.late, func() {
				s.mu.Lock()
				s.names, s.awake["b"] = append(s.names, "b"), true
				s.mu.Unlock()
				s.publish()
			})
			defer create.Stop()
			began := time.Now()
			w := s.do(tt.method, tt.path, tt.body)
			if took := time.Since(began); w.Code != tt.status || took != tt.want {
				t.Errorf("%s: %d after %v, want %d after %v: %s", tt.path, w.Code, took, tt.status, tt.want, w.Body)
			}
		})
	}
}
