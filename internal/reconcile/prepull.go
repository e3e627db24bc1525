package reconcile

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/schedule"
)

const (
	// pullLook is the shortest time between two looks at what is to be pulled.
	pullLook = 250 * time.Millisecond
	// pullRetry is the wait before an order without an answer is repeated.
	pullRetry = 5 * time.Second
	// pullsAtOnce bounds the orders that wait for an answer.
	pullsAtOnce = 64
)

// prepull orders the images of all servers to be pulled on the nodes that may run
// them, before a replica needs them. It does so once for each revision and each life
// of a node, until ctx ends. Workers bound how many they pull at once.
func (r *Reconciler) prepull(ctx context.Context, as fleet.Order) {
	desired, cancel := r.cfg.Desired.Subscribe()
	defer cancel()
	observed, cancel := r.cfg.View.Subscribe()
	defer cancel()
	done := pulled{}
	var before []pullKey // what todo was made from
	for {
		wait := time.NewTimer(pullLook)
		retry := false
		servers, intents, snap := r.cfg.Desired.Servers(), r.cfg.Desired.Nodes(), r.cfg.View.Snapshot()
		// Reports come all the time. Few of them bring a node or a revision.
		if now := pullCauses(servers, intents, snap); !slices.Equal(now, before) {
			before = now
			for batch := range slices.Chunk(done.missing(servers, intents, snap), pullsAtOnce) {
				retry = !r.orderPulls(ctx, as, batch, done) || retry
			}
		}
		if retry {
			before = nil
		}
		select { // changes that come soon after are seen together
		case <-ctx.Done():
		case <-wait.C:
		}
		var again <-chan time.Time
		if retry {
			again = time.After(pullRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-desired:
		case <-observed:
		case <-again:
		}
	}
}

// orderPulls sends a few orders, and waits for the answers. It reports whether all
// were answered.
func (r *Reconciler) orderPulls(ctx context.Context, as fleet.Order, batch []pull, done pulled) bool {
	failed := make([]bool, len(batch))
	var sent sync.WaitGroup
	for i, p := range batch {
		sent.Go(func() {
			tctx, cancel := context.WithTimeout(ctx, r.cfg.OrderTimeout)
			defer cancel()
			err := p.node.Worker.PullImage(tctx, as, p.template.Image, p.template.PullPolicy)
			if err != nil && !errors.Is(err, fleet.ErrOldWorker) {
				failed[i] = true
				r.log.Debug("pull of an image not ordered", "node", p.node.Member.Node, "image", p.template.Image, "err", err)
			}
		})
	}
	sent.Wait()
	all := true
	for i, p := range batch {
		if failed[i] {
			all = false
			continue
		}
		done[p.key] = true
	}
	return all
}

// pull is one image to be pulled on one node.
type pull struct {
	key      pullKey
	node     observe.Node
	template *fleet.Template
}

type pullKey struct {
	life   fleet.LifeID
	server fleet.ServerName
	rev    fleet.Revision
}

// pullCauses lists what decides about pulls: the revisions, and the nodes that take
// replicas.
func pullCauses(servers []fleet.Server, intents map[fleet.NodeID]fleet.NodeIntent, s *observe.Snapshot) (out []pullKey) {
	for i := range servers {
		if !servers[i].Target.Stopped() {
			out = append(out, pullKey{server: servers[i].Name, rev: servers[i].Revision})
		}
	}
	for _, id := range sortedKeys(s.Nodes) {
		if n := s.Nodes[id]; n.Connected && !n.Draining && n.Unfit == "" && !intents[id].Cordoned {
			out = append(out, pullKey{life: n.Member.Life})
		}
	}
	return out
}

// pulled has the pulls that were ordered.
type pulled map[pullKey]bool

// missing returns the pulls that have not been ordered, and forgets those of lives
// and revisions that are gone.
func (p pulled) missing(servers []fleet.Server, intents map[fleet.NodeID]fleet.NodeIntent, s *observe.Snapshot) (out []pull) {
	current := make(pulled, len(p))
	for i := range servers {
		d := &servers[i]
		t := &d.Spec.Template
		if t.Image == "" || t.PullPolicy == fleet.PullNever || d.Target.Stopped() {
			continue
		}
		for _, n := range s.Nodes {
			key := pullKey{n.Member.Life, d.Name, d.Revision}
			if p[key] {
				current[key] = true
				continue
			}
			if mayRun(d, n, intents[n.Member.Node]) {
				out = append(out, pull{key, n, t})
			}
		}
	}
	clear(p)
	for key := range current {
		p[key] = true
	}
	return out
}

// mayRun reports whether a node may get replicas of a server.
func mayRun(d *fleet.Server, n observe.Node, intent fleet.NodeIntent) bool {
	if !n.Connected || n.Draining || n.Unfit != "" || intent.Cordoned {
		return false
	}
	return schedule.CouldPlace(request(&d.Spec.Template, &d.Spec), []node{{
		ID: n.Member.Node, Zone: n.Info.Zone, Labels: n.Info.Labels, Runtimes: n.Info.Runtimes, Capacity: n.Info.Capacity,
	}})
}
