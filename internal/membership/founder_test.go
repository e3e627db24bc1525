package membership

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// beginner is the store and the ring of a controller that belongs to nothing
// yet.
type beginner struct {
	notice.Board
	mu      sync.Mutex
	cluster fleet.ClusterID
	voters  []fleet.ControllerID // once it was bootstrapped
	self    fleet.Member
	others  []fleet.Member
}

func (b *beginner) Cluster() fleet.ClusterID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cluster
}

func (b *beginner) Stateless() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.voters == nil
}

func (b *beginner) Bootstrap(voters []fleet.ControllerID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.voters = voters
	return nil
}

func (b *beginner) Members() []fleet.Member {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]fleet.Member{b.self}, b.others...)
}

func (b *beginner) Update(change func(*fleet.Member)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.self)
	return nil
}

// A founder waits for the other controllers, founds the cluster, and says so in
// the ring, then which cluster it is.
func TestFounder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		self := fleet.Member{Node: "a", Role: fleet.RoleController, Controller: "c1", Expect: 2}
		b := &beginner{self: self}
		f := &Founder{Store: b, Ring: b, Self: self, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { _ = f.Run(ctx) })
		expect := func(when string, voters []fleet.ControllerID, expect int, cluster fleet.ClusterID) {
			t.Helper()
			synctest.Wait()
			b.mu.Lock()
			defer b.mu.Unlock()
			if !slices.Equal(b.voters, voters) || b.self.Expect != expect || b.self.Cluster != cluster {
				t.Errorf("%s: voters %v, in the ring %+v", when, b.voters, b.self)
			}
		}
		expect("alone", nil, 2, "")
		b.mu.Lock()
		b.others = []fleet.Member{{Node: "b", Role: fleet.RoleController, Controller: "c2", Expect: 2}}
		b.mu.Unlock()
		b.Post()
		expect("both are here", []fleet.ControllerID{"c1", "c2"}, Founding, "")
		b.mu.Lock()
		b.cluster = "k"
		b.mu.Unlock()
		time.Sleep(lookEvery) // without a notice
		expect("the cluster has a name", []fleet.ControllerID{"c1", "c2"}, 0, "k")
	})
}
