package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestETags(t *testing.T) {
	f := newFixture()
	w := f.do("PUT", "/api/v1/servers/every", everything)
	first := w.Header().Get("ETag")
	if first == "" || first != f.do("GET", "/api/v1/servers/every", "").Header().Get("ETag") {
		t.Fatalf("ETag %q", first)
	}
	// Scaling and restarting do not change it.
	wantOK[api.Written](t, f.do("POST", "/api/v1/servers/every/scale", `{"replicas":4}`, "If-Match", first), 202)
	wantOK[api.Written](t, f.do("POST", "/api/v1/servers/every/restart", ``, "If-Match", strings.Trim(first, `"`)), 202)
	w = f.do("PUT", "/api/v1/servers/every", newer, "If-Match", `"0.0", `+first)
	second := w.Header().Get("ETag")
	if wantOK[api.Written](t, w, 202); second == first {
		t.Errorf("ETag is still %s", second)
	}
	w = f.do("DELETE", "/api/v1/servers/every", "", "If-Match", first)
	wantError(t, w.Code, w.Header(), w.Body, 412, api.CodePrecondition, strings.Trim(second, `"`))

	for _, tc := range []struct {
		path, tags string
		status     int
	}{
		{"/api/v1/servers/every", second, 304},
		{"/api/v1/servers/every", `W/` + second, 304},
		{"/api/v1/servers/every", first, 200},
		{"/api/v1/servers/every", `*`, 304},
		{"/api/v1/servers", second, 304}, // the last write to any of them
		{"/api/v1/servers", first, 200},
	} {
		w := f.do("GET", tc.path, "", "If-None-Match", tc.tags)
		if w.Code != tc.status || w.Header().Get("ETag") != second || (w.Body.Len() == 0) != (tc.status == 304) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s If-None-Match %s: got %d %q %v", tc.path, tc.tags, w.Code, w.Body, w.Header())
		}
	}
	w = f.do("PUT", "/api/v1/servers", `{"servers":{"other":{"image":"x"}}}`, "If-Match", second)
	if got := wantOK[api.Applied](t, w, 202); got.ETag == "" || `"`+got.ETag+`"` != w.Header().Get("ETag") || len(got.Servers) != 1 || got.DefaultServer != "other" {
		t.Errorf("got %+v", got)
	}
	w = f.do("PUT", "/api/v1/servers", `{"servers":{"other":{"image":"x"}}}`, "If-None-Match", "*")
	wantError(t, w.Code, w.Header(), w.Body, 412, api.CodePrecondition, "exist")
}

func TestDesiredReads(t *testing.T) {
	f := newFixture()
	for _, body := range []string{everything, newer} {
		f.do("PUT", "/api/v1/servers/every", body)
	}
	s := wantOK[api.Server](t, f.do("GET", "/api/v1/servers/every/", ""), 200)
	if s.Name != "every" || s.Revision != 2 || s.Desired != 2 || s.State != fleet.StateDeploying || !strings.Contains(string(s.Spec), `"TOKEN":"***"`) || s.Index != f.desired.State().Index {
		t.Errorf("got %+v", s)
	}
	if body := f.do("GET", "/api/v1/servers/every", "").Body.String(); !strings.Contains(body, `"rollout":`) || !strings.Contains(body, `"last_ended":[]`) {
		t.Errorf("got %s", body)
	}
	w := f.do("GET", "/api/v1/servers/evry", "")
	wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeUnknownServer, `did you mean "every"?`)
	w = f.do("GET", "/api/v1/servers/evry/revisions", "")
	wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeUnknownServer, `did you mean "every"?`)

	list := wantOK[api.Servers](t, f.do("GET", "/api/v1/servers", ""), 200)
	if len(list.Servers) != 1 || list.DefaultServer != "every" || list.ETag != f.desired.State().ETag() || list.Index != f.desired.State().Index {
		t.Errorf("got %+v", list)
	}

	revs := wantOK[api.Revisions](t, f.do("GET", "/api/v1/servers/every/revisions", ""), 200)
	if len(revs.Revisions) != 2 || revs.Revisions[0].Revision != 2 || !revs.Revisions[0].Current || revs.Revisions[1].Current || revs.Revisions[0].CreatedAt.IsZero() {
		t.Fatalf("got %+v", revs)
	}
	if d := revs.Revisions[0].Changes; len(d) != 1 || d[0].Field != "image" || string(d[0].From) != `"docker.io/x/everything:1"` {
		t.Errorf("diff %+v", d)
	}
	if len(revs.Revisions[1].Changes) != 0 || strings.Contains(string(revs.Revisions[1].Spec), "replicas") || !strings.Contains(string(revs.Revisions[1].Spec), `"image":"docker.io/x/everything:1"`) {
		t.Errorf("got %+v %s", revs.Revisions[1].Changes, revs.Revisions[1].Spec)
	}

	for _, q := range []string{"stale=maybe", "index=-1", "index=x", "index=1&wait=abc", "index=1&wait=11m", "index=1&wait=-1s", "wait=1s", "a=%zz"} {
		name, _, _ := strings.Cut(q[strings.LastIndex(q, "&")+1:], "=")
		if name == "a" {
			name = "query"
		}
		for _, path := range []string{"/api/v1/servers", "/api/v1/servers/every", "/api/v1/servers/every/revisions", "/api/v1/backup"} {
			w := f.do("GET", path+"?"+q, "")
			wantError(t, w.Code, w.Header(), w.Body, 400, api.CodeBadRequest, name)
		}
	}
	w = f.do("GET", "/api/v1/backup", "")
	if w.Code != 200 || w.Body.String() != fmt.Sprintf("backup at %d", f.desired.State().Applied) || !strings.Contains(w.Header().Get("Content-Disposition"), "attachment") {
		t.Errorf("backup: got %d %s %v", w.Code, w.Body, w.Header())
	}
	w = f.do("GET", "/api/v1/schema", "")
	if w.Code != 200 || !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/schema+json" {
		t.Errorf("schema: got %d %v", w.Code, w.Header())
	}
}

func TestBackupThatFails(t *testing.T) {
	f := newFixture(func(c *config) { c.Backup = nil })
	w := f.do("GET", "/api/v1/backup", "")
	wantError(t, w.Code, w.Header(), w.Body, 500, api.CodeInternal, "internal error")
}

// A client that waits for something newer gets it at once when it is written, and
// the present state after the wait.
func TestBlockingReads(t *testing.T) {
	cases := []struct {
		name, path, query string
		change            func(f *fixture)
		took              time.Duration
	}{
		{"the set changes", "", "&wait=1m", func(f *fixture) { f.do("PUT", "/api/v1/servers/other", `{"image":"x"}`) }, time.Second},
		{"by default", "", "", func(*fixture) {}, time.Minute},
		{"nothing changes", "", "&wait=10m", func(*fixture) {}, 10 * time.Minute},
		{"not at all", "", "&wait=0s", func(*fixture) {}, 0},
		{"another server", "/every", "&wait=20s", func(f *fixture) { f.do("PUT", "/api/v1/servers/other", `{"image":"x"}`) }, 20 * time.Second},
		{"the server", "/every", "", func(f *fixture) { f.do("POST", "/api/v1/servers/every/scale", `{"replicas":9}`) }, time.Second},
		{"it goes", "/every", "", func(f *fixture) { f.do("DELETE", "/api/v1/servers/every", "") }, time.Second},
		{"its revisions", "/every/revisions", "", func(f *fixture) { f.do("PUT", "/api/v1/servers/every", newer) }, time.Second},
		{"stale", "/every", "&stale=1", func(f *fixture) { f.do("PUT", "/api/v1/servers/every", newer) }, time.Second},
		{"the controller stops", "", "", func(f *fixture) { f.stop() }, time.Second},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				f := newFixture()
				f.do("PUT", "/api/v1/servers/every", everything)
				index := f.desired.State().Index
				start := time.Now()
				time.AfterFunc(time.Second, func() { tc.change(f) })
				w := f.do("GET", fmt.Sprintf("/api/v1/servers%s?index=%d%s", tc.path, index, tc.query), "")
				if took := time.Since(start); took != tc.took {
					t.Errorf("answered after %v, want %v", took, tc.took)
				}
				if tc.name == "it goes" {
					wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeUnknownServer, "")
					return
				}
				got := wantOK[struct{ Index uint64 }](t, w, 200)
				if changed := tc.took == time.Second && tc.name != "the controller stops"; (got.Index > index) != changed || w.Header().Get("Mcpfleet-Index") != fmt.Sprint(got.Index) {
					t.Errorf("index %d after %d, header %s", got.Index, index, w.Header().Get("Mcpfleet-Index"))
				}
				time.Sleep(time.Minute) // the timer of the change
			})
		})
	}
	f := newFixture()
	w := f.do("GET", "/api/v1/servers/none?index=7", "")
	wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeUnknownServer, "")
}
