package leader

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// election is an Election and a Log of controller c1, as the test has them.
type election struct {
	notice.Board
	mu      sync.Mutex
	leads   fleet.ControllerID // "": nobody
	index   uint64             // of the state here
	latest  uint64             // of what is committed
	returns uint64
	readErr error
}

func (e *election) set(change func()) {
	e.mu.Lock()
	change()
	e.mu.Unlock()
	e.Post()
}

func (e *election) ID() fleet.ControllerID { return "c1" }

func (e *election) Leader() (fleet.ControllerID, fleet.Epoch, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leads, 1, e.leads != ""
}

func (e *election) State() *desired.State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &desired.State{Index: e.index}
}

func (e *election) Read(context.Context) (*desired.State, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &desired.State{Index: e.latest}, e.readErr
}

func (e *election) Returns() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.returns
}

// ring is a Ring with members that the test sets.
type ring struct {
	notice.Board
	mu      sync.Mutex
	members []fleet.Member
}

func (r *ring) Members() []fleet.Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members
}

func (r *ring) set(members ...fleet.Member) {
	r.mu.Lock()
	r.members = members
	r.mu.Unlock()
	r.Post()
}

func TestFind(t *testing.T) {
	old, now := time.Unix(1, 0), time.Unix(2, 0)
	for _, tt := range []struct {
		name    string
		leads   fleet.ControllerID
		members []fleet.Member
		want    Leader
		err     string
	}{
		{"nobody leads", "", []fleet.Member{{Controller: "c2", HTTP: "a:1"}}, Leader{}, "no controller leads at the moment"},
		{"this controller leads", "c1", nil, Leader{ID: "c1", Self: true}, ""},
		{"another leads", "c2", []fleet.Member{{Controller: "c3", HTTP: "b:1"}, {Controller: "c2", HTTP: "a:1"}}, Leader{ID: "c2", HTTP: "a:1"}, ""},
		{"gossip has not found it", "c2", []fleet.Member{{Controller: "c3", HTTP: "b:1"}}, Leader{}, "the leader's address is not known yet"},
		{"in two lives", "c2", []fleet.Member{
			{Controller: "c2", HTTP: "new:1", Started: now}, {Controller: "c2", HTTP: "old:1", Started: old},
		}, Leader{ID: "c2", HTTP: "new:1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := New(&election{leads: tt.leads}, &ring{members: tt.members}).Find()
			if got != tt.want || (err == nil) != (tt.err == "") {
				t.Fatalf("got %+v, %v, want %+v and error %q", got, err, tt.want, tt.err)
			}
			if err != nil && (err.Error() != tt.err || !errors.Is(err, fleet.ErrNoLeader)) {
				t.Errorf("got error %q, want %q", err, tt.err)
			}
		})
	}
}

func TestDo(t *testing.T) {
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		_, _ = w.Write([]byte(`{"servers":[]}`))
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	errHere := errors.New("done here")
	for _, tt := range []struct {
		name  string
		leads fleet.ControllerID
		here  bool
		asked string
		err   error
	}{
		{"nobody leads", "", false, "", fleet.ErrNoLeader},
		{"here", "c1", true, "", errHere},
		{"there", "c2", false, "/api/v1/servers", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = ""
			here := false
			f := New(&election{leads: tt.leads}, &ring{members: []fleet.Member{{Controller: "c2", HTTP: address}}})
			defer f.Close()
			err := f.Do(t.Context(), func(context.Context) error {
				here = true
				return errHere
			}, func(ctx context.Context, c *api.Client) error {
				_, err := c.Servers(ctx)
				return err
			})
			if !errors.Is(err, tt.err) || here != tt.here || asked != tt.asked {
				t.Errorf("got %v, done here: %v, asked for %q", err, here, asked)
			}
		})
	}
}

// Wait looks again when another leads, and when gossip finds where it is.
func TestWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e, r := &election{leads: "c1"}, &ring{}
		f := New(e, r)
		returned := make(chan error, 1)
		go func() {
			returned <- f.Wait(t.Context(), func(l Leader) bool { return l.ID == "c2" && l.HTTP == "a:1" })
		}()
		stays := func(when string) {
			t.Helper()
			synctest.Wait()
			if len(returned) > 0 {
				t.Errorf("%s, and Wait returned", when)
			}
		}
		stays("another leads")
		e.set(func() { e.leads = "c2" })
		stays("its address is not known")
		r.set(fleet.Member{Controller: "c2", HTTP: "a:1"})
		if err := <-returned; err != nil {
			t.Error(err)
		}
		time.AfterFunc(time.Second, func() { // without a notice
			e.mu.Lock()
			defer e.mu.Unlock()
			e.leads = "c1"
		})
		if err := f.Wait(t.Context(), func(l Leader) bool { return l.Self }); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Wait(ctx, func(Leader) bool { return false }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v once the context had ended", err)
		}
	})
}

func TestCatchUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		e := &election{latest: 7}
		c := NewCatchUp(e, New(e, &ring{}))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = c.Run(ctx) })
		expect := func(when, missing string) {
			t.Helper()
			time.Sleep(time.Second) // of the bubble: some retries
			if got := c.Missing(); got == "" != (missing == "") || !strings.Contains(got, missing) {
				t.Errorf("%s: missing %q, want %q", when, got, missing)
			}
		}
		expect("nobody leads", "before it started")
		e.set(func() { e.leads, e.readErr = "c1", errors.New("no majority") })
		expect("the leader does not answer", "before it started")
		e.set(func() { e.readErr = nil })
		expect("it lacks some", "before it started")
		select {
		case <-c.Done():
			t.Error("it is done, and lacks some")
		default:
		}
		e.set(func() { e.index = 7 })
		expect("it has all", "")
		<-c.Done()
		e.set(func() { e.latest = 9 })
		expect("what is written later", "")
		e.set(func() { e.returns = 1 })
		expect("it came back", "written meanwhile")
		e.set(func() { e.index = 9 })
		expect("it has that, too", "")
	})
}
