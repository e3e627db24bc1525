package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/cli/top"
)

func topping(t *testing.T) *fakeAPI {
	t.Helper()
	return newFakeAPI(t).on("GET /api/v1/servers", 200, storedTwo).on("GET /api/v1/nodes", 200, `{"nodes":[{"name":"n1","role":"worker","state":"READY"}]}`).
		on("GET /api/v1/replicas", 200, `{"replicas":[{"id":"web-1-a","server":"web","node":"n1","phase":"READY","total_calls":5}]}`).
		on("GET /api/v1/replicas", 200, `{"replicas":[{"id":"web-1-a","server":"web","node":"n1","phase":"READY","total_calls":2005}]}`)
}

// Away from a terminal, top prints each view once, with rates.
func TestTop(t *testing.T) {
	r := execute(t, topping(t).URL, "", "top", "--interval", "200ms")
	lines := strings.Split(r.out, "\n")
	if r.code != 0 || len(lines) != 10 || !strings.HasPrefix(lines[0], "SERVER  STATE") || !strings.HasPrefix(lines[1], "web ") || !strings.HasPrefix(lines[4], "REPLICA") || !strings.HasPrefix(lines[7], "NODE") {
		t.Errorf("%v:\n%s", r.err, r.out)
	}
	if r := execute(t, topping(t).URL, "", "top", "--once", "--interval", "200ms", "--sort", "server"); !strings.HasPrefix(strings.Split(r.out, "\n")[1], "old ") {
		t.Errorf("sorted by name: %v:\n%s", r.err, r.out)
	}
	r = execute(t, topping(t).URL, "", "top", "-o", "json", "--interval", "200ms")
	var report top.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || len(report.Servers) != 2 || len(report.Nodes) != 1 {
		t.Fatalf("%v, %v:\n%s", r.err, err, r.out)
	}
	if web := report.Servers[1]; web.Calls == nil || *web.Calls < 100 || *web.Calls > 10000 || web.P50 != nil {
		t.Errorf("%+v", web)
	}
}

func TestTopMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"top --interval 1ms":      "--interval must be at least 200ms",
		"top --sort queue":        `--sort: no view has a column "queue"; did you mean "QUEUED"?; the columns are SERVER, STATE,`,
		"top demo":                `unexpected argument "demo"; the command is: mcpfleet top`,
		"top --address 127.0.0.1": "connection refused",
	} {
		r := execute(t, refusing(t), "", strings.Fields(args)...)
		r.wants(t, map[bool]int{true: 1, false: 2}[strings.Contains(args, "--address")], "", want)
	}
}

// Without a leader, the last known state is shown. A controller that breaks off is
// left for another one at the next reading.
func TestTopWithoutALeader(t *testing.T) {
	f := newFakeAPI(t).on("GET /api/v1/servers", 503, `{"detail":"none","code":"no_leader"}`).on("GET /api/v1/servers?stale=1", 200, storedTwo).
		on("GET /api/v1/replicas", 200, `{"replicas":[]}`).on("GET /api/v1/nodes", 200, `{"nodes":[]}`)
	const note = "the leader does not answer: states and queues are what this controller knows"
	if r := execute(t, f.URL, "", "top", "--interval", "200ms"); r.code != 0 || !strings.Contains(r.out, "web     READY") || r.stderr != "mcpfleet: "+note+"\n" {
		t.Errorf("%v, %s:\n%s", r.err, r.stderr, r.out)
	}
	if r := execute(t, f.URL, "", "top", "--interval", "200ms", "-o", "json"); !strings.Contains(r.out, `"note": "`+note) || r.stderr != "" {
		t.Errorf("%v, %s:\n%s", r.err, r.stderr, r.out)
	}
	hangs := newFakeAPI(t).on("GET /api/v1/servers", 0, "")
	a := &app{address: hangs.URL + "," + topping(t).URL}
	client, err := a.client()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTop(t.Context(), client, time.Minute); err == nil {
		t.Error("no error from the first one")
	}
	if r, err := readTop(t.Context(), client, time.Minute); err != nil || r.Note != "" {
		t.Errorf("the second one was not asked: %v, note %q", err, r.Note)
	}
}

// A controller may wait for a leader for longer than old figures can stay.
func TestTopWhileTheLeaderIsSilent(t *testing.T) {
	f := topping(t).on("GET /api/v1/servers?stale=1", 200, storedTwo)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() == "/api/v1/servers" {
			<-r.Context().Done()
			return
		}
		f.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	client, err := (&app{address: s.URL}).client()
	if err != nil {
		t.Fatal(err)
	}
	r, err := readTop(t.Context(), client, 20*time.Millisecond)
	if err != nil || len(r.Servers) != 2 || !strings.Contains(r.Note, "the leader does not answer") {
		t.Errorf("%v, %+v", err, r)
	}
}
