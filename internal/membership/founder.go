package membership

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Bootstrapper is raft's side of founding a cluster. Package store implements
// it.
type Bootstrapper interface {
	Cluster() fleet.ClusterID // "" before this controller belongs to one
	Stateless() bool
	Bootstrap(voters []fleet.ControllerID) error
	// Subscribe posts a notice when any of these may have changed.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Ring is the ring of members. Package gossip implements it.
type Ring interface {
	Members() []fleet.Member
	// Update changes what the ring says of this controller.
	Update(change func(*fleet.Member)) error
	// Subscribe posts a notice when Members may have changed.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Founder makes a controller without any raft state part of a cluster: it founds
// one when Found says so, else it waits for a leader to take it in. It keeps the
// ring informed of the cluster that this controller belongs to.
type Founder struct {
	Store Bootstrapper
	Ring  Ring
	Self  fleet.Member
	Log   *slog.Logger
}

// Run ends with ctx and returns nil.
func (f *Founder) Run(ctx context.Context) error {
	members, cancelMembers := f.Ring.Subscribe()
	defer cancelMembers()
	state, cancelState := f.Store.Subscribe()
	defer cancelState()
	tick := time.NewTicker(lookEvery) // raft may begin without a notice
	defer tick.Stop()
	logged := ""
	for {
		if why := f.step(); why != logged {
			if logged = why; why != "" {
				f.Log.Info("no cluster yet", "reason", why)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-members:
		case <-state:
		case <-tick.C:
		}
	}
}

// step informs the ring, and founds a cluster if it is time. It returns what
// this controller waits for, in words, or "".
func (f *Founder) step() (waitsFor string) {
	cluster, stateless := f.Store.Cluster(), f.Store.Stateless()
	err := f.Ring.Update(func(m *fleet.Member) {
		switch m.Cluster = cluster; {
		case cluster != "":
			m.Expect = 0
		case !stateless:
			m.Expect = Founding
		}
	})
	if err != nil {
		f.Log.Error("ring not informed about this controller", "err", err)
	}
	if cluster != "" || !stateless {
		return ""
	}
	voters, why := Found(f.Self, f.Ring.Members())
	if len(voters) == 0 {
		return why
	}
	if err := f.Store.Bootstrap(voters); err != nil {
		return fmt.Sprintf("the cluster could not be founded: %v", err)
	}
	f.Log.Info("cluster founded", "voters", voters)
	return ""
}
