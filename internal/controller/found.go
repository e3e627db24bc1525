package controller

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/membership"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// founder makes a controller without any raft state part of a cluster: it
// founds one when it is its turn, or waits for a leader to take it in; and it
// keeps the ring told which cluster this controller belongs to.
type founder struct {
	desired *store.Store
	ring    *gossip.Ring
	self    fleet.Member
	log     *slog.Logger
}

// Run goes on until ctx ends.
func (f *founder) Run(ctx context.Context) error {
	changed, cancel := f.ring.Subscribe()
	defer cancel()
	known, cancelKnown := f.desired.Subscribe()
	defer cancelKnown()
	tick := time.NewTicker(time.Second) // raft may have begun without any of these noticing
	defer tick.Stop()
	told := ""
	for {
		if why := f.look(); why != told {
			if told = why; why != "" {
				f.log.Info("no cluster yet", "reason", why)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-known:
		case <-tick.C:
		}
	}
}

// look does what is to be done now, and says what is waited for.
func (f *founder) look() (why string) {
	cluster, stateless := f.desired.Cluster(), f.desired.Stateless()
	err := f.ring.Update(func(m *fleet.Member) {
		switch m.Cluster = cluster; {
		case cluster != "":
			m.Expect = 0
		case !stateless:
			m.Expect = membership.Founding
		}
	})
	if err != nil {
		f.log.Error("the ring is not told about this controller", "err", err)
	}
	if cluster != "" || !stateless {
		return ""
	}
	voters, why := membership.Found(f.self, f.ring.Members())
	if len(voters) == 0 {
		return why
	}
	if err := f.desired.Bootstrap(voters); err != nil {
		return fmt.Sprintf("the cluster could not be founded: %v", err)
	}
	f.log.Info("founded a cluster", "voters", voters)
	return ""
}
