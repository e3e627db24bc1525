package sessions

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// slowPeer is another controller, which is told of sessions late, and to which nothing
// else gets through.
type slowPeer struct {
	Controller
	to    *Service
	after time.Duration
	err   error
}

func (p *slowPeer) TellSessions(ctx context.Context, o fleet.Order, records []fleet.SessionRecord) error {
	select {
	case <-time.After(p.after):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if p.err != nil {
		return p.err
	}
	return p.to.TellSessions(ctx, o, records)
}

// Settle waits until the other controllers know of a session, but not for long.
func TestSettle(t *testing.T) {
	service := func(cluster fleet.ClusterID) *Service {
		return New(Config{
			Directory: NewDirectory(), Log: slog.New(slog.DiscardHandler),
			Order: func() (fleet.Order, bool) { return fleet.Order{Cluster: cluster}, true },
		})
	}
	for _, tt := range []struct {
		name  string
		peer  *slowPeer // nil: none
		knows bool      // then
		after time.Duration
	}{
		{name: "alone"},
		{name: "at once", peer: &slowPeer{to: service("c")}, knows: true},
		{name: "later", peer: &slowPeer{to: service("c"), after: 400 * time.Millisecond}, knows: true, after: 400 * time.Millisecond},
		{name: "one that is gone", peer: &slowPeer{to: service("c"), err: errors.New("gone"), after: time.Millisecond}, after: time.Millisecond},
		{name: "one that hangs", peer: &slowPeer{to: service("c"), after: time.Hour}, after: settleTime},
		{name: "one of another cluster", peer: &slowPeer{to: service("d")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := service("c")
				s.Settle("unknown")
				if tt.peer != nil {
					s.links.add(tt.peer)
				}
				s.cfg.Directory.End("s", time.Now().Add(time.Hour))
				began := time.Now()
				s.Settle("s")
				if took := time.Since(began); took != tt.after {
					t.Errorf("took %s, want %s", took, tt.after)
				}
				if tt.peer == nil {
					return
				}
				if knows := tt.peer.to.cfg.Directory.Ended("s"); knows != tt.knows {
					t.Errorf("the other controller knows of the end: %v, want %v", knows, tt.knows)
				}
				s.links.remove(tt.peer)
				s.Settle("s") // nobody is left
			})
		})
	}
}

// Controllers that follow each other tell each other at once.
func TestFollowersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, 1, 3, nil)
		synctest.Wait()
		for i, c := range w.controllers {
			if n := len(c.service.links.now()); n != len(w.controllers)-1 {
				t.Errorf("controller %d tells %d others", i, n)
			}
		}
	})
}
