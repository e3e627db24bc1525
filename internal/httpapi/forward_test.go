package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// following is a fixture whose leader is another server.
func following(t *testing.T, leader http.Handler) (*fixture, *httptest.Server) {
	t.Helper()
	srv := httptest.NewServer(leader)
	t.Cleanup(srv.Close)
	f := newFixture(func(c *config) { c.Self = "ctl2" })
	t.Cleanup(f.api.Close)
	f.desired.become(follows(srv.Listener.Addr().String()))
	return f, srv
}

// roundTrip is a transport to the leader without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	return f(r)
}

func TestForwarding(t *testing.T) {
	leader := newFixture()
	var got *http.Request
	f, _ := following(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		leader.handler.ServeHTTP(w, r)
	}))
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	w := f.do("PUT", "/api/v1/servers/every?dry_run=0", everything, "X-Request-ID", "r-7", "traceparent", trace, "Authorization", "Bearer abc",
		"If-None-Match", "*", "Idempotency-Key", "k1", "Connection", "X-Hop", "X-Hop", "1", "X-Forwarded-For", "10.1.1.1")
	written := wantOK[api.Written](t, w, 201)
	if w.Header().Get("ETag") != `"`+written.ETag+`"` || w.Header().Get("Mcpfleet-Index") == "" || w.Header().Get("X-Request-ID") != "r-7" || len(w.Header()["X-Request-Id"]) != 1 {
		t.Errorf("answered with %v", w.Header())
	}
	for name, want := range map[string]string{
		"X-Request-ID": "r-7", "traceparent": trace, "Authorization": "Bearer abc", "If-None-Match": "*", "Idempotency-Key": "k1",
		"Mcpfleet-Forwarded-By": "ctl2", "X-Forwarded-For": "10.1.1.1, 192.0.2.1", "X-Hop": "", "Content-Type": "application/json",
	} {
		if have := got.Header.Get(name); have != want {
			t.Errorf("the leader got %s: %q, want %q", name, have, want)
		}
	}
	if got.URL.String() != "/api/v1/servers/every?dry_run=0" || got.ContentLength != int64(len(everything)) {
		t.Errorf("the leader got %s, %d bytes", got.URL, got.ContentLength)
	}
	if leader.desired.proposed != 1 || f.desired.proposed != 0 {
		t.Errorf("written %d times on the leader, %d here", leader.desired.proposed, f.desired.proposed)
	}

	// Each kind of answer comes back as it is.
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/api/v1/servers", "", 200},
		{"GET", "/api/v1/servers/every", "", 200},
		{"HEAD", "/api/v1/servers/every", "", 200},
		{"GET", "/api/v1/servers/none", "", 404},
		{"GET", "/api/v1/servers/every/revisions", "", 200},
		{"GET", "/api/v1/backup", "", 200},
		{"POST", "/api/v1/servers/every/restart", "", 202},
		{"POST", "/api/v1/servers/every/scale?dry_run=1", `{"replicas":3}`, 200},
		{"DELETE", "/api/v1/controllers/ctl3", "", 200},
		{"DELETE", "/api/v1/servers/every", "", 202},
		{"DELETE", "/api/v1/servers/every", "", 404},
		{"POST", "/api/v1/nodes/n9/drain", "", 404},
	} {
		got = nil
		w := f.do(tc.method, tc.path, tc.body)
		if w.Code != tc.status || got == nil || (w.Body.Len() == 0) != (tc.method == "HEAD") || w.Header().Get("Content-Length") == "" {
			t.Errorf("%s %s: got %d %s %v, want %d from the leader", tc.method, tc.path, w.Code, w.Body, w.Header(), tc.status)
		}
	}
	// The leader says how the servers do, the follower what it knows itself.
	got = nil
	for _, path := range []string{"/api/v1/servers?stale=1", "/api/v1/nodes", "/api/v1/replicas", "/api/v1/events", "/api/v1/controllers", "/api/v1/schema", "/api/v1/backup?stale=true"} {
		if w := f.do("GET", path, ""); w.Code != 200 || got != nil {
			t.Errorf("%s: got %d, asked the leader: %v", path, w.Code, got != nil)
		}
	}
	// A bad request is refused without the leader.
	w = f.do("PUT", "/api/v1/servers/every", `{"image":7}`)
	wantError(t, w.Code, w.Header(), w.Body, 400, api.CodeBadRequest, "image")
	if got != nil {
		t.Error("the leader was asked")
	}
}

// If the leader dies between a write and its answer, the outcome is unknown. The
// write is not sent again.
func TestLeaderDiesInMidWrite(t *testing.T) {
	for _, tc := range []struct {
		name, method, path, body string
		headers                  []string
		answer                   string // what comes of it
	}{
		{"put", "PUT", "/api/v1/servers/every", everything, nil, ""},
		{"delete", "DELETE", "/api/v1/servers/every", "", nil, ""},
		{"restart with a key", "POST", "/api/v1/servers/every/restart", "", []string{"Idempotency-Key", "k1"}, ""},
		{"restart with a key that is not ours", "POST", "/api/v1/servers/every/restart", "", []string{"X-Idempotency-Key", "k1"}, ""},
		{"rollback with a key", "POST", "/api/v1/servers/every/rollback", `{"revision":1}`, []string{"Idempotency-Key", "k1"}, ""},
		{"half an answer", "PUT", "/api/v1/servers/every", everything, nil, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var writes atomic.Int32
			leader := newFixture()
			f, _ := following(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					leader.handler.ServeHTTP(w, r)
					return
				}
				writes.Add(1)
				_, _ = io.ReadAll(r.Body)
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, tc.answer)
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}))
			// Over a connection that is used again, which http's transport would
			// like to take for stale.
			wantOK[api.Servers](t, f.do("GET", "/api/v1/servers", ""), 200)
			w := f.do(tc.method, tc.path, tc.body, tc.headers...)
			wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeOutcomeUnknown, "outcome of the write is unknown")
			if n := writes.Load(); n != 1 {
				t.Errorf("the write was sent %d times", n)
			}
		})
	}
}

// Reads and dry runs that are lost are repeated on the next leader.
func TestLeaderDiesInMidRead(t *testing.T) {
	for _, path := range []string{"GET /api/v1/servers", "POST /api/v1/servers/every/restart?dry_run=1"} {
		method, path, _ := strings.Cut(path, " ")
		next := newFixture()
		next.do("PUT", "/api/v1/servers/every", everything)
		second := httptest.NewServer(next.handler)
		defer second.Close()
		var f *fixture
		var asked atomic.Int32
		f, _ = following(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if asked.Add(1) == 2 { // not at once: nobody knows so soon that it is dead
				f.desired.become(follows(second.Listener.Addr().String()))
			}
			panic(http.ErrAbortHandler)
		}))
		if w := f.do(method, path, ""); w.Code != 200 || asked.Load() != 2 {
			t.Errorf("%s: got %d %s after asking %d times", path, w.Code, w.Body, asked.Load())
		}
	}
}

// A write that could not be sent goes to the next leader.
func TestLeaderChanges(t *testing.T) {
	next := newFixture()
	second := httptest.NewServer(next.handler)
	defer second.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	f := newFixture(func(c *config) { c.Self = "ctl2" })
	f.desired.become(follows(gone))
	time.AfterFunc(100*time.Millisecond, func() { f.desired.become(nobody) })
	time.AfterFunc(200*time.Millisecond, func() { f.desired.become(follows(second.Listener.Addr().String())) })
	wantOK[api.Written](t, f.do("PUT", "/api/v1/servers/every", everything), 201)
	if next.desired.proposed != 1 {
		t.Errorf("written %d times", next.desired.proposed)
	}

	// It may become this one, too.
	f.desired.become(nobody)
	time.AfterFunc(50*time.Millisecond, func() { f.desired.become(leads) })
	wantOK[api.Written](t, f.do("PUT", "/api/v1/servers/every", everything), 201)
	f.api.Close()
}

// A controller that no longer leads has written nothing, so the next leader is asked.
func TestLeaderIsDeposed(t *testing.T) {
	next := newFixture()
	second := httptest.NewServer(next.handler)
	defer second.Close()
	old := newFixture(func(c *config) { c.Self = "ctl3" })
	old.desired.become(nobody)
	var f *fixture
	f, _ = following(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		old.handler.ServeHTTP(w, r)
		f.desired.become(follows(second.Listener.Addr().String()))
	}))
	wantOK[api.Written](t, f.do("PUT", "/api/v1/servers/every", everything), 201)
}

// A request is never forwarded twice, so that two controllers that take each other
// for the leader do not loop.
func TestNoForwardingLoop(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a, b := newFixture(), newFixture()
		asked := 0
		to := func(f *fixture) roundTrip {
			return func(r *http.Request) (*http.Response, error) {
				asked++
				w := httptest.NewRecorder()
				f.handler.ServeHTTP(w, r)
				return w.Result(), nil
			}
		}
		a.api.transport, b.api.transport = to(b), to(a)
		a.desired.become(follows("b"))
		b.desired.become(follows("a"))
		start := time.Now()
		w := a.do("PUT", "/api/v1/servers/every", everything)
		wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, "does not lead")
		if took := time.Since(start); took != DefaultLeaderWait || asked > int(DefaultLeaderWait/leaderPoll)+2 {
			t.Errorf("it took %v and %d requests", took, asked)
		}

		asked, start = 0, time.Now()
		w = b.do("GET", "/api/v1/servers", "", "Mcpfleet-Forwarded-By", "ctl9")
		wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, `"ctl9" passed the request on`)
		if asked != 0 || time.Since(start) != 0 {
			t.Errorf("asked %d times, took %v", asked, time.Since(start))
		}
	})
}

func TestNobodyLeads(t *testing.T) {
	cases := []struct {
		name   string
		during func(f *fixture)
		took   time.Duration
		status int
		detail string
	}{
		{"ever", func(*fixture) {}, DefaultLeaderWait, 503, "no controller leads"},
		{"at no known address", func(f *fixture) { f.desired.become(follows("")) }, DefaultLeaderWait, 503, "address is not known"},
		{"and the controller stops", func(f *fixture) { f.stop() }, time.Second, 503, "stopping"},
		{"for a second", func(f *fixture) { f.desired.become(leads) }, time.Second + leaderPoll, 201, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := newFixture()
				f.desired.become(nobody)
				start := time.Now()
				time.AfterFunc(time.Second, func() { tc.during(f) })
				w := f.do("PUT", "/api/v1/servers/every", everything)
				if took := time.Since(start); took < tc.took-leaderPoll || took > tc.took {
					t.Errorf("took %v, want %v", took, tc.took)
				}
				if tc.status == 201 {
					wantOK[api.Written](t, w, 201)
					return
				}
				wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, "nothing was written: ")
				if w := f.do("GET", "/api/v1/servers?stale=1", ""); w.Code != 200 {
					t.Errorf("stale: got %d %s", w.Code, w.Body)
				}
				f.desired.become(nobody)
				f.stop()
				w = f.do("GET", "/api/v1/servers", "")
				wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, "")
			})
		})
	}
}

// The answer to a write that was passed on waits until this controller knows of it,
// but not for long. Other answers do not wait.
func TestForwardedWriteIsKnown(t *testing.T) {
	for _, tc := range []struct {
		name, method, path, body string
		after, took              time.Duration // after: 0 for never
	}{
		{"a write", "PUT", "/api/v1/servers/every", everything, 50 * time.Millisecond, 50 * time.Millisecond},
		{"a write that never comes", "PUT", "/api/v1/servers/every", everything, 0, ownWrite},
		{"a dry run", "PUT", "/api/v1/servers/every?dry_run=1", everything, 0, 0},
		{"a read", "GET", "/api/v1/servers", "", 0, 0},
		{"a refusal", "DELETE", "/api/v1/servers/none", "", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				leader, f := newFixture(), newFixture(func(c *config) { c.Self = "ctl2" })
				f.desired.become(follows("leader"))
				f.api.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					w := httptest.NewRecorder()
					leader.handler.ServeHTTP(w, r)
					if tc.after > 0 {
						time.AfterFunc(tc.after, func() { f.desired.learn(leader.desired.State()) })
					}
					return w.Result(), nil
				})
				start := time.Now()
				f.do(tc.method, tc.path, tc.body)
				if took := time.Since(start); took != tc.took {
					t.Errorf("answered after %v, want %v", took, tc.took)
				}
			})
		})
	}
}

// The outcome of a write in the store reaches the client.
func TestOutcomesOfWrites(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		code   string
		tries  int // 0: any number
	}{
		{fmt.Errorf("lost leadership: %w", fleet.ErrOutcomeUnknown), 503, api.CodeOutcomeUnknown, 1},
		{errors.Join(fleet.ErrOutcomeUnknown, context.Canceled), 503, api.CodeOutcomeUnknown, 1},
		{context.Canceled, 503, api.CodeOutcomeUnknown, 1},
		{context.DeadlineExceeded, 503, api.CodeOutcomeUnknown, 1},
		{fleet.ErrUnsupported, 409, api.CodeUnsupported, 1},
		{fleet.ErrNotLeader, 503, api.CodeNoLeader, 0},
		{errors.New("disk is full"), 500, api.CodeInternal, 1},
	} {
		bubble.Test(t, func(t *testing.T) {
			f := newFixture()
			tries := 0
			f.desired.onPropose = func() error { tries++; return tc.err }
			w := f.do("PUT", "/api/v1/servers/every", everything)
			wantError(t, w.Code, w.Header(), w.Body, tc.status, tc.code, "")
			if tc.tries > 0 && tries != tc.tries {
				t.Errorf("%v: proposed %d times", tc.err, tries)
			}
		})
	}
	// Of a read nothing is unknown.
	f := newFixture()
	f.desired.onRead = func() error { return context.Canceled }
	w := f.do("GET", "/api/v1/servers", "")
	wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, "")
}

// The wait for a leader that does not answer is bounded.
func TestLeaderHangs(t *testing.T) {
	for _, tc := range []struct {
		method, body string
		code         string
	}{{"PUT", everything, api.CodeOutcomeUnknown}, {"GET", "", api.CodeNoLeader}} {
		bubble.Test(t, func(t *testing.T) {
			f := newFixture(func(c *config) {
				c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				})
			})
			f.desired.become(follows("ctl1:8000"))
			start := time.Now()
			w := f.do(tc.method, "/api/v1/servers/every", tc.body)
			wantError(t, w.Code, w.Header(), w.Body, 503, tc.code, "too long")
			if took := time.Since(start); took < answerTimeout || took > 3*answerTimeout {
				t.Errorf("took %v", took)
			}
		})
	}
}
