package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const initialize = `{"protocolVersion":"2025-06-18","capabilities":{"roots":{}},"clientInfo":{"name":"a client","version":"1"}}`

// raw orders a raw spare.
func (r *rig) raw(id fleet.ReplicaID, edit func(*fleet.Template)) {
	r.t.Helper()
	r.rawOf(id, fleet.ServerName(id), edit)
}

func (r *rig) rawOf(id fleet.ReplicaID, server fleet.ServerName, edit func(*fleet.Template)) {
	r.t.Helper()
	as := assignment(id, edit)
	as.Server = server
	as.Spare, as.Raw = true, true
	if _, err := r.StartReplica(r.t.Context(), order, as); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) open(id fleet.ReplicaID, session fleet.SessionID) (fleet.SessionOpened, error) {
	return r.OpenSession(r.t.Context(), order, fleet.SessionStart{Replica: id, Session: session, Initialize: []byte(initialize)})
}

// A raw spare is READY without a word to it. The client's own initialize opens it, for the
// calls of the session alone, and it ends with the session.
func TestARawSpareIsGivenToOneSession(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.raw("a", nil)
		if got := r.until("a", fleet.PhaseReady); !got.Raw || !got.Spare || got.Session != "" || got.Catalogue != "" {
			t.Errorf("reported %+v, want a raw spare", got)
		}
		if e := r.call("a", "whoami", "{}").reply(t); !errors.Is(e.Err, fleet.ErrNotDelivered) {
			t.Errorf("a call to a raw spare: got %v, want not delivered", e.Err)
		}
		opened, err := r.open("a", "s1")
		if err != nil {
			t.Fatal(err)
		}
		var init struct{ ProtocolVersion string }
		if err := json.Unmarshal(opened.Result, &init); err != nil || init.ProtocolVersion != "2025-06-18" {
			t.Errorf("the server answers %s, %v", opened.Result, err)
		}
		synctest.Wait()
		if got := r.view.snapshot(); got.replicas["a"].Session != "s1" || got.replicas["a"].Spare || got.last.Version < opened.Version {
			t.Errorf("reported %+v in version %d, want that of session s1 in version %d", got.replicas["a"], got.last.Version, opened.Version)
		}
		if got := r.call("a", "whoami", "{}").text(t); got != "a" {
			t.Errorf("a call of the session: got %q", got)
		}
		if again, err := r.open("a", "s1"); err != nil || string(again.Result) != string(opened.Result) {
			t.Errorf("opened again: %s, %v; want the same", again.Result, err)
		}
		if _, err := r.open("a", "s2"); !errors.Is(err, fleet.ErrNotDelivered) {
			t.Errorf("opened for another session: %v", err)
		}
		for _, session := range []fleet.SessionID{"s2", ""} {
			if err := r.CloseSession(t.Context(), "a", session, "not yours"); !errors.Is(err, fleet.ErrUnknownReplica) {
				t.Errorf("closed for session %q: %v", session, err)
			}
		}
		if err := r.CloseSession(t.Context(), "a", "s1", "the client has ended it"); err != nil {
			t.Fatal(err)
		}
		if got := r.until("a", fleet.PhaseStopped); got.Reason != "the client has ended it" || got.Session != "s1" {
			t.Errorf("ended as %+v", got)
		}
	})
}

// A fresh replica of a session gets what the session had set, and the client's calls only
// then. What it announces is for its session: nobody else hears of it.
func TestRestoreAndNews(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &wire{}
		rt := agenttest.New()
		rt.Handle("a", scripted(`{"tools":{},"resources":{"subscribe":true},"logging":{}}`, w.handle))
		r := newRig(t, rt, nil)
		r.raw("a", nil)
		r.until("a", fleet.PhaseReady)
		l := r.listen()
		defer l.stop()
		l.want("file:///b")
		_, err := r.OpenSession(t.Context(), order, fleet.SessionStart{
			Replica: "a", Session: "s1", Initialize: []byte(initialize),
			Restore: fleet.Restore{Level: "warning", Subscriptions: []string{"file:///a", `file:///"b"`}},
		})
		if err != nil {
			t.Fatal(err)
		}
		is(t, "sent", w.sent(), `logging/setLevel {"level":"warning"}
resources/subscribe {"uri":"file:///a"}
resources/subscribe {"uri":"file:///\"b\""}`)
		w.says(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:///b"}}`)
		w.says(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		is(t, "heard by others", l.heard(), "")
	})
}

// Of two sessions that are given the same spare at once, one gets it.
func TestTwoClaimsAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.raw("a", nil)
		r.until("a", fleet.PhaseReady)
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			all.Go(func() { _, errs[i] = r.open("a", fleet.SessionID("s"+string(rune('0'+i%4)))) })
		}
		all.Wait()
		ok := 0
		for _, err := range errs {
			if err == nil {
				ok++
			} else if !errors.Is(err, fleet.ErrNotDelivered) {
				t.Errorf("got %v", err)
			}
		}
		if ok != 2 { // each session claims twice
			t.Errorf("%d claims succeeded, want both of one session", ok)
		}
	})
}

// DELETE does not wait for running calls.
func TestAClosedSessionEndsAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.raw("a", nil)
		r.until("a", fleet.PhaseReady)
		if _, err := r.open("a", "s1"); err != nil {
			t.Fatal(err)
		}
		c := r.call("a", "hang", "{}")
		synctest.Wait()
		began := time.Now()
		if err := r.CloseSession(t.Context(), "a", "s1", "the client has ended it"); err != nil {
			t.Fatal(err)
		}
		if e := c.reply(t); e.Err == nil {
			t.Error("the running call was answered")
		}
		r.until("a", fleet.PhaseStopped)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the end took %s", took)
		}
	})
}

func TestASessionThatDoesNotOpen(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server agenttest.Echo
		ended  string
	}{
		{"a server that does not answer", agenttest.Echo{Silent: true}, "no answer within 20s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				rt := agenttest.New()
				rt.Handle("a", tt.server.Serve)
				r := newRig(t, rt, nil)
				r.raw("a", nil)
				r.until("a", fleet.PhaseReady)
				if _, err := r.open("a", "s1"); !errors.Is(err, fleet.ErrReplicaLost) {
					t.Errorf("got %v, want a lost replica", err)
				}
				got := r.until("a", fleet.PhaseFailed)
				if !strings.Contains(got.Reason, tt.ended) || got.Session != "s1" {
					t.Errorf("ended as %+v", got)
				}
			})
		})
	}
}

func TestOpenSessionRefuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.spare("b", nil)
		r.until("b", fleet.PhaseReady)
		for _, id := range []fleet.ReplicaID{"unknown", "b"} {
			if _, err := r.open(id, "s1"); !errors.Is(err, fleet.ErrNotDelivered) {
				t.Errorf("replica %s: %v", id, err)
			}
		}
		if _, err := r.OpenSession(t.Context(), fleet.Order{Cluster: cluster}, fleet.SessionStart{Replica: "b", Session: "s", Initialize: []byte("{}")}); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an old order: %v", err)
		}
		r.raw("c", nil)
		r.until("c", fleet.PhaseReady)
		r.order("c", "not needed")
		if _, err := r.open("c", "s1"); !errors.Is(err, fleet.ErrNotDelivered) {
			t.Errorf("a replica that stops: %v", err)
		}
		r.until("c", fleet.PhaseStopped)
	})
}
