package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Each method asks for what its route takes.
func TestRequests(t *testing.T) {
	a := &answer{body: `{"name":"s","revision":3,"desired":2,"servers":[{"name":"s"}],"default_server":"s","changes":[{"server":"s","kind":"updated","fields":[]}],
		"etag":"1.7","index":9,"controllers":[{"name":"c1"}],"revisions":[{"revision":3}],"events":[{"id":"3-1"}],"last":"3-1"}`}
	var header http.Header
	c := newTest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		a.ServeHTTP(w, r)
	}))
	ctx := t.Context()
	for _, tc := range []struct {
		name   string
		do     func() error
		method string
		url    string
		sent   string
		want   string // a header that must be there, as Name: value
	}{
		{"List", func() error {
			got, err := c.List(ctx, ReadOptions{Index: 7, Wait: 20 * time.Second, Stale: true})
			if got.ETag != "1.7" || got.Index != 9 || got.DefaultServer != "s" || len(got.Servers) != 1 {
				t.Errorf("List: %+v", got)
			}
			return err
		}, "GET", "/api/v1/servers?index=7&stale=1&wait=20s", "", ""},
		{"GetServer", func() error {
			got, err := c.GetServer(ctx, "s", ReadOptions{Wait: time.Second})
			if got.Name != "s" || got.Revision != 3 || got.Desired != 2 {
				t.Errorf("GetServer: %+v", got)
			}
			return err
		}, "GET", "/api/v1/servers/s", "", ""},
		{"Revisions", func() error {
			got, err := c.Revisions(ctx, "a/b", ReadOptions{})
			if len(got.Revisions) != 1 {
				t.Errorf("Revisions: %+v", got)
			}
			return err
		}, "GET", "/api/v1/servers/a%2Fb/revisions", "", ""},
		{"Apply", func() error {
			got, err := c.Apply(ctx, []byte(`{"servers":{}}`), WriteOptions{IfMatch: "1.7", DryRun: true})
			if got.Status != 200 || len(got.Changes) != 1 || got.ETag != "1.7" || len(got.Servers) != 1 {
				t.Errorf("Apply: %+v", got)
			}
			return err
		}, "PUT", "/api/v1/servers?dry_run=1", `{"servers":{}}`, `If-Match: "1.7"`},
		{"PutServer", func() error {
			got, err := c.PutServer(ctx, "s", []byte(`{"image":"x"}`), WriteOptions{New: true})
			if got.Status != 200 || got.Revision != 3 || got.Changes[0].Kind != "updated" {
				t.Errorf("PutServer: %+v", got)
			}
			return err
		}, "PUT", "/api/v1/servers/s", `{"image":"x"}`, "If-None-Match: *"},
		{"Delete", func() error { _, err := c.Delete(ctx, "s", WriteOptions{IfMatch: "*"}); return err }, "DELETE", "/api/v1/servers/s", "", "If-Match: *"},
		{"Scale", func() error { _, err := c.Scale(ctx, "s", 0, WriteOptions{}); return err }, "POST", "/api/v1/servers/s/scale", `{"replicas":0}`, "Content-Type: application/json"},
		{"SetFloor", func() error { _, err := c.SetFloor(ctx, "s", 3, 90*time.Minute, WriteOptions{}); return err }, "POST", "/api/v1/servers/s/scale", `{"min_replicas":3,"ttl":"1h30m0s"}`, ""},
		{"SetFloor to nothing", func() error { _, err := c.SetFloor(ctx, "s", 0, time.Hour, WriteOptions{}); return err }, "POST", "/api/v1/servers/s/scale", `{"min_replicas":0}`, ""},
		{"SetRollout", func() error { _, err := c.SetRollout(ctx, "s", RolloutPause, WriteOptions{IfMatch: "*"}); return err }, "POST", "/api/v1/servers/s/rollout", `{"action":"pause"}`, "If-Match: *"},
		{"Apply once more", func() error { _, err := c.Apply(ctx, nil, WriteOptions{Retry: true, DryRun: true}); return err }, "PUT", "/api/v1/servers?dry_run=1&retry=1", "", ""},
		{"Restart", func() error { _, err := c.Restart(ctx, "s", WriteOptions{IdempotencyKey: "k"}); return err }, "POST", "/api/v1/servers/s/restart", "", "Idempotency-Key: k"},
		{"Rollback", func() error { _, err := c.Rollback(ctx, "s", 2, WriteOptions{IdempotencyKey: "k"}); return err }, "POST", "/api/v1/servers/s/rollback", `{"revision":2}`, "Idempotency-Key: k"},
		{"Rollback to the last", func() error { _, err := c.Rollback(ctx, "s", 0, WriteOptions{}); return err }, "POST", "/api/v1/servers/s/rollback", `{}`, ""},
		{"Drain", func() error { _, err := c.Drain(ctx, "n1", 90*time.Second, WriteOptions{}); return err }, "POST", "/api/v1/nodes/n1/drain", `{"deadline":"1m30s"}`, ""},
		{"Drain by default", func() error { _, err := c.Drain(ctx, "n1", 0, WriteOptions{DryRun: true}); return err }, "POST", "/api/v1/nodes/n1/drain?dry_run=1", `{}`, ""},
		{"Cordon", func() error { _, err := c.Cordon(ctx, "n1", WriteOptions{}); return err }, "POST", "/api/v1/nodes/n1/cordon", "", ""},
		{"Uncordon", func() error { _, err := c.Uncordon(ctx, "n1", WriteOptions{}); return err }, "POST", "/api/v1/nodes/n1/uncordon", "", ""},
		{"Controllers", func() error {
			got, err := c.Controllers(ctx)
			if len(got.Controllers) != 1 {
				t.Errorf("Controllers: %+v", got)
			}
			return err
		}, "GET", "/api/v1/controllers", "", ""},
		{"RemoveController", func() error { _, err := c.RemoveController(ctx, "c 1"); return err }, "DELETE", "/api/v1/controllers/c%201", "", ""},
		{"Transfer", func() error { _, err := c.Transfer(ctx, "c1"); return err }, "POST", "/api/v1/controllers/c1/transfer", "", ""},
		{"Backup", func() error {
			var b bytes.Buffer
			err := c.Backup(ctx, &b, ReadOptions{Stale: true})
			if b.String() != a.body {
				t.Errorf("Backup: %s", &b)
			}
			return err
		}, "GET", "/api/v1/backup?stale=1", "", ""},
		{"Events", func() error {
			got, err := c.Events(ctx, EventOptions{Since: "3-0", Limit: 5, Server: "s", Kinds: []string{"a", "b"}})
			if len(got.Events) != 1 || got.Last != "3-1" {
				t.Errorf("Events: %+v", got)
			}
			return err
		}, "GET", "/api/v1/events?kind=a&kind=b&limit=5&server=s&since=3-0", "", ""},
	} {
		header = nil
		if err := tc.do(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if a.method != tc.method || a.path != tc.url || a.sent != tc.sent {
			t.Errorf("%s: sent %s %s %s, want %s %s %s", tc.name, a.method, a.path, a.sent, tc.method, tc.url, tc.sent)
		}
		if name, value, _ := strings.Cut(tc.want, ": "); name != "" && header.Get(name) != value {
			t.Errorf("%s: %s is %q, want %q", tc.name, name, header.Get(name), value)
		}
	}
}

func TestWriteAnswers(t *testing.T) {
	a := &answer{status: 202, body: `{"dry_run":true,"changes":[],"plan":[{"action":"stop","server":"s","replica":"s-1-ab","node":"n1","revision":1,"reason":"old"}]}`}
	c := newTest(t, a)
	got, err := c.Restart(t.Context(), "s", WriteOptions{DryRun: true})
	if err != nil || !got.DryRun || got.Status != 202 || len(got.Plan) != 1 || got.Plan[0].Action != PlanStop {
		t.Errorf("got %+v, %v", got, err)
	}
	a.status, a.body = 422, `{"detail":"replicas: too many","code":"invalid","request_id":"r","errors":[{"path":"replicas","line":2,"column":3,"message":"too many"}]}`
	_, err = c.PutServer(t.Context(), "s", []byte("{}"), WriteOptions{})
	var e *Error
	if !errors.As(err, &e) || len(e.Errors) != 1 || e.Errors[0] != (FieldError{"replicas", 2, 3, "too many"}) || !errors.Is(err, fleet.ErrInvalid) || errors.Is(err, fleet.ErrConflict) {
		t.Errorf("got %+v", err)
	}
	a.status, a.body = 200, "garbage"
	if _, err = c.Delete(t.Context(), "s", WriteOptions{}); err == nil {
		t.Error("garbage was understood")
	}
}

// An answer's code is one of fleet's errors on this side, too.
func TestErrorIs(t *testing.T) {
	for _, o := range outcomes {
		if err := error(&Error{Code: o.code}); errors.Is(fmt.Errorf("apply: %w", err), o.err) == (o.code == CodeBadRequest) {
			t.Errorf("code %s and %v", o.code, o.err)
		}
	}
	if errors.Is(&Error{Code: CodeNoLeader}, fleet.ErrOutcomeUnknown) || errors.Is(&Error{}, fleet.ErrNoLeader) {
		t.Error("codes are mixed up")
	}
}

func TestStreamEvents(t *testing.T) {
	var asked []string
	text := ""
	c := newTest(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
	}))
	text = "event: gap\ndata: {\"kind\":\"gap\"}\n\nid: 3-1\ndata: {\"id\":\"3-1\",\"kind\":\"started\"}\n\n: heartbeat\nid: 3-4\n\nid: 3-5\ndata: {\"id\""
	o := EventOptions{Limit: 7, Kinds: []string{"started"}}
	var got []string
	on := func(e Event) { got = append(got, string(e.Kind)+" "+e.ID) }
	if err := c.StreamEvents(t.Context(), &o, on); err != nil {
		t.Fatal(err)
	}
	// The last frame was cut: it comes again.
	if strings.Join(got, ",") != "gap ,started 3-1" || o.Since != "3-4" {
		t.Errorf("got %v, goes on after %s", got, o.Since)
	}
	text = "data: nonsense\n\n"
	if err := c.StreamEvents(t.Context(), &o, on); err == nil {
		t.Error("nonsense was understood")
	}
	if want := "kind=started&limit=7,kind=started&since=3-4"; strings.Join(asked, ",") != want {
		t.Errorf("asked for %v, want %s", asked, want)
	}

	a := &answer{body: `{}`}
	if err := newTest(t, a).StreamEvents(t.Context(), &o, on); err == nil || !strings.Contains(err.Error(), "not a stream") {
		t.Errorf("got %v", err)
	}
	a.status, a.body = 404, `{"detail":"no such thing","code":"not_found"}`
	if err := newTest(t, a).FollowEvents(t.Context(), o, on); err == nil || err.Error() != "no such thing" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = newTest(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel()
		panic(http.ErrAbortHandler)
	}))
	if err := c.FollowEvents(ctx, o, on); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

// Lists are never null, and absent values are written as the API documents.
func TestJSON(t *testing.T) {
	for _, tc := range []struct {
		v    any
		want string
	}{
		{DryRun{DryRun: true, Changes: []Change{}, Plan: []PlannedAction{}}, `{"dry_run":true,"changes":[],"plan":[]}`},
		{Change{Node: "n1", Kind: "cordoned", Fields: []Difference{{Field: "x", From: json.RawMessage("null"), To: json.RawMessage("1")}}},
			`{"node":"n1","kind":"cordoned","fields":[{"field":"x","from":null,"to":1}]}`},
		{Written{Server: Server{Name: "s", LastEnded: []Ended{}, Spec: json.RawMessage("{}")}, Changes: []Change{}},
			`{"name":"s","state":"","reason":"","desired":0,"desired_by":"","ready":0,"spares":0,"restarts":0,"ongoing":0,"queued":0,"revision":0,"generation":0,"stable":0,"rollout":null,"failed":null,"autoscaling":null,"era":"","protocol":"","spec":{},"last_ended":[],"etag":"","index":0,"changes":[]}`},
	} {
		if got, err := json.Marshal(tc.v); err != nil || string(got) != tc.want {
			t.Errorf("got %s, %v; want %s", got, err, tc.want)
		}
	}
}
