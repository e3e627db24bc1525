package reconcile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"iter"
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
	// pullNodes is on how many nodes an image is pulled at most. Hundreds of images on
	// hundreds of nodes would fill every disk for little.
	pullNodes = 32
)

// prepull orders the images of all servers to be pulled on the nodes that may run
// them, before a replica needs them. It does so once for each image and each life of a
// node, until ctx ends. Workers bound how many they pull at once.
func (r *Reconciler) prepull(ctx context.Context, as fleet.Order) {
	desired, cancel := r.cfg.Desired.Subscribe()
	defer cancel()
	observed, cancel := r.cfg.View.Subscribe()
	defer cancel()
	done := pulled{}
	var before []pullCause // what todo was made from
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

// pullKey names an image that is pulled on one life of a node. Servers share images.
type pullKey struct {
	life   fleet.LifeID
	image  string
	policy fleet.PullPolicy
}

// pullCause is a revision, or a node that takes replicas.
type pullCause struct {
	life   fleet.LifeID
	server fleet.ServerName
	rev    fleet.Revision
}

// pullCauses lists what decides about pulls: the revisions, and the nodes that take
// replicas.
func pullCauses(servers []fleet.Server, intents map[fleet.NodeID]fleet.NodeIntent, s *observe.Snapshot) (out []pullCause) {
	for i := range servers {
		if !servers[i].Target.Stopped() {
			out = append(out, pullCause{server: servers[i].Name, rev: servers[i].Revision})
		}
	}
	for _, id := range sortedKeys(s.Nodes) {
		if n := s.Nodes[id]; n.Connected && !n.Draining && n.Unfit == "" && !intents[id].Cordoned {
			out = append(out, pullCause{life: n.Member.Life})
		}
	}
	return out
}

// pulled has the pulls that were ordered.
type pulled map[pullKey]bool

// missing returns the pulls that have not been ordered, and forgets those of lives
// and images that are gone. An image is pulled on all nodes that may run it, or on
// pullNodes of them.
func (p pulled) missing(servers []fleet.Server, intents map[fleet.NodeID]fleet.NodeIntent, s *observe.Snapshot) (out []pull) {
	current := make(pulled, len(p))
	asked := make(pulled) // now
	ring := newPullRing(s)
	for i := range servers {
		d := &servers[i]
		t := &d.Spec.Template
		if t.Image == "" || t.PullPolicy == fleet.PullNever || d.Target.Stopped() {
			continue
		}
		n := 0
		for id := range ring.from(t.Image) {
			node := s.Nodes[id]
			key := pullKey{node.Member.Life, t.Image, t.PullPolicy}
			switch {
			case p[key]:
				current[key] = true
			case asked[key]:
			case mayRun(d, node, intents[id]):
				asked[key] = true
				out = append(out, pull{key, node, t})
			default:
				continue
			}
			if n++; n == pullNodes {
				break
			}
		}
	}
	clear(p)
	for key := range current {
		p[key] = true
	}
	return out
}

// pullRing has the nodes in the order of the hashes of their names. The nodes from an
// image's own hash on are those that pull it, so that few change when a node joins.
type pullRing []hashedNode

type hashedNode struct {
	hash uint64
	id   fleet.NodeID
}

func newPullRing(s *observe.Snapshot) pullRing {
	ring := make(pullRing, 0, len(s.Nodes))
	for id := range s.Nodes {
		ring = append(ring, hashedNode{hashOf(string(id)), id})
	}
	slices.SortFunc(ring, func(a, b hashedNode) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.id, b.id)) })
	return ring
}

// from returns all nodes, beginning at the image's hash.
func (r pullRing) from(image string) iter.Seq[fleet.NodeID] {
	first, _ := slices.BinarySearchFunc(r, hashOf(image), func(n hashedNode, hash uint64) int { return cmp.Compare(n.hash, hash) })
	return func(yield func(fleet.NodeID) bool) {
		for i := range r {
			if !yield(r[(first+i)%len(r)].id) {
				return
			}
		}
	}
}

func hashOf(s string) uint64 {
	h := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint64(h[:])
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
