package load

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	retryMin = 50 * time.Millisecond
	retryMax = time.Second
	// quietTries is how many failed tries in a row, some 3 s, cause no warning.
	quietTries = 7
)

// peers are the other controllers of the cluster. Only the Run loop uses it.
type peers struct {
	order   fleet.Order
	self    fleet.LifeID
	dial    func(fleet.Member) (Controller, error)
	changed func() // a peer has news
	log     *slog.Logger

	byLife  map[fleet.LifeID]*peer
	running sync.WaitGroup // one for each peer, and for those that have left and not ended yet
}

// peer is one life of another controller.
type peer struct {
	member fleet.Member
	cancel context.CancelFunc

	mu        sync.Mutex
	connected bool                     // its stream has delivered, and has not ended
	queues    map[fleet.ServerName]int // as last known
}

// update follows the controllers that are new in the ring, and no longer those that
// have left it.
func (p *peers) update(ctx context.Context, members []fleet.Member) {
	present := make(map[fleet.LifeID]bool)
	for _, m := range fleet.OtherControllers(members, p.order.Cluster, p.self) {
		present[m.Life] = true
		one := p.byLife[m.Life]
		if one != nil && one.member.GRPC == m.GRPC {
			continue
		}
		if one != nil {
			one.cancel()
		}
		ctx, cancel := context.WithCancel(ctx)
		one = &peer{member: m, cancel: cancel}
		p.byLife[m.Life] = one
		if m.GRPC != "" {
			p.running.Go(func() { p.follow(ctx, one) })
		}
	}
	for life, one := range p.byLife {
		if !present[life] {
			one.cancel()
			delete(p.byLife, life)
		}
	}
}

// follow keeps a watch of the peer's queues open until ctx ends.
func (p *peers) follow(ctx context.Context, one *peer) {
	log := p.log.With("node", one.member.Node, "life", one.member.Life)
	wait, tries := retryMin, 0
	for {
		heard, err := p.session(ctx, one)
		if ctx.Err() != nil {
			return
		}
		if tries++; heard {
			wait, tries = retryMin, 0
			log.Info("controller no longer reports its queue", "err", err)
		}
		if tries == quietTries {
			log.Warn("controller does not report its queue: no server is scaled down", "at", one.member.GRPC, "err", err)
		}
		pause := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		wait = min(2*wait, retryMax)
	}
}

// session makes one connection, and takes in what comes until it ends. It reports
// whether anything came.
func (p *peers) session(ctx context.Context, one *peer) (heard bool, err error) {
	c, err := p.dial(one.member)
	if err != nil {
		return false, fmt.Errorf("dial controller %s at %s: %w", one.member.Node, one.member.GRPC, err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			p.log.Debug("connection not closed", "node", one.member.Node, "err", err)
		}
	}()
	err = c.WatchQueues(ctx, p.order, func(queues map[fleet.ServerName]int) {
		if one.report(queues, !heard) {
			p.changed()
		}
		heard = true
	})
	one.mu.Lock()
	one.connected = false
	one.mu.Unlock()
	if heard {
		p.changed()
	}
	return heard, err
}

// report takes in a message, the first of its stream or a later one. It reports
// whether anything has changed.
func (p *peer) report(queues map[fleet.ServerName]int, first bool) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first {
		p.connected, p.queues = true, make(map[fleet.ServerName]int, len(queues))
	}
	for name, n := range queues {
		if p.queues[name] = n; n == 0 {
			delete(p.queues, name)
		}
	}
	return first || len(queues) > 0
}

// addTo calls add with the queues of each peer, as last known, and names those that
// do not report.
func (p *peers) addTo(add func(map[fleet.ServerName]int)) (missing []string) {
	ordered := make([]*peer, 0, len(p.byLife))
	for _, one := range p.byLife {
		ordered = append(ordered, one)
	}
	slices.SortFunc(ordered, func(a, b *peer) int {
		return cmp.Or(cmp.Compare(a.member.Node, b.member.Node), cmp.Compare(a.member.Life, b.member.Life))
	})
	for _, one := range ordered {
		one.mu.Lock()
		add(one.queues)
		connected := one.connected
		one.mu.Unlock()
		switch {
		case one.member.GRPC == "":
			missing = append(missing, fmt.Sprintf("controller %s cannot report its queue: its version is too old", one.member.Node))
		case !connected:
			missing = append(missing, fmt.Sprintf("controller %s does not report its queue", one.member.Node))
		}
	}
	return missing
}
