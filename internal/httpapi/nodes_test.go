package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestNodes(t *testing.T) {
	f := newFixture()
	f.state.nodes = []api.Node{{Name: "n1", Role: fleet.RoleWorker, State: api.NodeReady, Replicas: 3}}
	before := time.Now()
	got := wantOK[api.NodeWritten](t, f.do("POST", "/api/v1/nodes/n1/drain", ""), 202)
	if !got.Cordoned || got.DrainUntil == nil || got.DrainUntil.Before(before.Add(10*time.Minute)) || got.DrainUntil.After(time.Now().Add(10*time.Minute)) || got.Replicas != 3 {
		t.Errorf("got %+v", got)
	}
	// A node that is gone can still be uncordoned.
	f.state.nodes = nil
	got = wantOK[api.NodeWritten](t, f.do("POST", "/api/v1/nodes/n1/uncordon", ""), 200)
	if got.Cordoned || got.DrainUntil != nil || got.State != api.NodeLost {
		t.Errorf("got %+v", got)
	}
	w := f.do("POST", "/api/v1/nodes/n1/uncordon", "")
	wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeUnknownNode, "n1")
	if _, err := f.desired.Propose(t.Context(), desired.SetKnown{Nodes: []fleet.NodeID{"n1"}}); err != nil {
		t.Fatal(err)
	}
	wantOK[api.NodeWritten](t, f.do("POST", "/api/v1/nodes/n1/cordon", ""), 200)
}

func TestWake(t *testing.T) {
	f := newFixture()
	wantOK[api.Written](t, f.do("PUT", "/api/v1/servers/x", `{"command":["x"]}`), 201)
	got := wantOK[api.Woken](t, f.do("POST", "/api/v1/servers/x/wake", "", "Content-Type", ""), 202)
	if got.Server != "x" || !slices.Equal(f.woken, []fleet.ServerName{"x"}) {
		t.Errorf("answered %+v, woken are %v", got, f.woken)
	}
	for path, want := range map[string]int{"/api/v1/servers/xx/wake": 404, "/api/v1/servers/x/wake?dry_run=1": 400} {
		if w := f.do("POST", path, "", "Content-Type", ""); w.Code != want {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
	if len(f.woken) != 1 {
		t.Errorf("woken are %v", f.woken)
	}
}

func TestControllers(t *testing.T) {
	f := newFixture()
	list := wantOK[api.Controllers](t, f.do("GET", "/api/v1/controllers", ""), 200)
	if len(list.Controllers) != 1 || list.Cluster != "abcd" {
		t.Errorf("got %+v", list)
	}
	wantOK[api.Controllers](t, f.do("DELETE", "/api/v1/controllers/ctl2", ""), 200)
	wantOK[api.Controllers](t, f.do("POST", "/api/v1/controllers/ctl3/transfer", "", "Content-Type", ""), 200)
	if got := strings.Join(f.members.done, ", "); got != "remove ctl2, transfer ctl3" {
		t.Errorf("did %s", got)
	}
	for err, want := range map[error]string{
		fleet.ErrUnknownController: "404 unknown_controller", fleet.ErrConflict: "409 conflict", fleet.ErrOutcomeUnknown: "503 outcome_unknown",
	} {
		f.members.err = fmt.Errorf("controller ctl9: %w", err)
		w := f.do("DELETE", "/api/v1/controllers/ctl9", "")
		var status int
		var code string
		fmt.Sscan(want, &status, &code)
		wantError(t, w.Code, w.Header(), w.Body, status, code, "ctl9")
	}
	w := f.do("DELETE", "/api/v1/controllers/ctl2?dry_run=1", "")
	wantError(t, w.Code, w.Header(), w.Body, 400, api.CodeBadRequest, "dry_run")
	w = f.do("DELETE", "/api/v1/controllers/ctl2", "", "If-Match", "*")
	wantError(t, w.Code, w.Header(), w.Body, 400, api.CodeBadRequest, "If-Match")
}
