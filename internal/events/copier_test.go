package events

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// election is who leads, and where c2 is. This controller is c1.
type election struct {
	notice.Board
	mu      sync.Mutex
	leads   fleet.ControllerID
	address string
}

func (e *election) ID() fleet.ControllerID { return "c1" }

func (e *election) Leader() (fleet.ControllerID, fleet.Epoch, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leads, 1, e.leads != ""
}

func (e *election) Members() []fleet.Member {
	return []fleet.Member{{Controller: "c2", HTTP: e.address}, {Controller: "c3", HTTP: "127.0.0.1:1"}}
}

// A controller copies from the leader until another one leads, and never from
// itself.
func TestCopier(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		asked <- r.URL.Query().Get("since")
		<-r.Context().Done()
	}))
	defer server.Close()
	e := &election{address: strings.TrimPrefix(server.URL, "http://")}
	finder := leader.New(e, e)
	defer finder.Close()
	c := &Copier{Log: New(10), Leader: finder}
	nothing := func(Event) { t.Error("an event") }
	if err := c.copy(t.Context(), "", nothing); !errors.Is(err, fleet.ErrNoLeader) {
		t.Errorf("nobody leads: %v", err)
	}
	e.leads = "c1"
	if err := c.copy(t.Context(), "", nothing); !errors.Is(err, errNothingToCopy) {
		t.Errorf("this controller leads: %v", err)
	}
	e.leads = "c2"
	ended := make(chan error, 1)
	go func() { ended <- c.copy(t.Context(), "3-7", nothing) }()
	if since := <-asked; since != "3-7" {
		t.Errorf("asked for events since %q", since)
	}
	e.mu.Lock()
	e.leads = "c3"
	e.mu.Unlock()
	e.Post()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("another leads: %v", err)
	}
}
