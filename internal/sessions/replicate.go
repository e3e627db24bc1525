package sessions

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	retryMin = 50 * time.Millisecond
	retryMax = time.Second
	// heartbeat is how often a controller sends something to those that watch it.
	heartbeat = time.Second
	// batch is how many records travel together. With all their subscriptions they have
	// less than gRPC's 4 MiB.
	batch = 16
)

// Controller is a connection to one life of another controller. Package rpc implements
// it.
type Controller interface {
	// WatchSessions calls on, from one goroutine, with the records of that controller:
	// all, then those that change. It does not call on after it has returned. The error is
	// never nil.
	WatchSessions(ctx context.Context, order fleet.Order, on func([]fleet.SessionRecord)) error
	// TellSessions has that controller take in records. It knows them when it returns.
	TellSessions(ctx context.Context, order fleet.Order, records []fleet.SessionRecord) error
	// GiveSession has a leader open a session.
	GiveSession(ctx context.Context, order fleet.Order, r fleet.SessionRequest) (fleet.SessionGiven, error)
	Close() error
}

// Members lists the members of the gossip ring. Package gossip implements it.
type Members interface {
	Members() []fleet.Member
	// Subscribe posts a notice when Members may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// WatchSessions sends the records of this controller's directory: all, then those that
// change, and nothing at least once a second. It ends with ctx, when send fails, or with
// fleet.ErrForeignCluster.
func (s *Service) WatchSessions(ctx context.Context, order fleet.Order, send func([]fleet.SessionRecord) error) error {
	if err := s.checkCluster(order); err != nil {
		return err
	}
	look, cancel := s.cfg.Directory.board.Subscribe()
	defer cancel()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for version := uint64(0); ; {
		var records []fleet.SessionRecord
		records, version = s.cfg.Directory.changes(version)
		for first := true; first || len(records) > 0; first = false {
			n := min(batch, len(records))
			if err := send(records[:n]); err != nil {
				return err
			}
			records = records[n:]
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look:
		case <-beat.C:
		}
	}
}

// checkCluster refuses requests of a controller of another cluster.
func (s *Service) checkCluster(order fleet.Order) error {
	if own, known := s.cfg.Order(); !known || order.Cluster != own.Cluster {
		return fmt.Errorf("%w: this controller serves %q, the request is from %q", fleet.ErrForeignCluster, own.Cluster, order.Cluster)
	}
	return nil
}

// peers follow the directories of all other controllers. Only Run uses it.
type peers struct {
	s       *Service
	byLife  map[fleet.LifeID]*peer
	running sync.WaitGroup // one for each peer, and for those that have left and not ended yet
}

type peer struct {
	at     string
	cancel context.CancelFunc
}

// Run takes in the records of all other controllers until ctx ends, and returns nil then,
// once all orders to close sessions are given.
func (s *Service) Run(ctx context.Context) error {
	defer s.closing.Wait()
	defer s.leader.close()
	ctx, cancel := context.WithCancel(ctx)
	p := &peers{s: s, byLife: make(map[fleet.LifeID]*peer)}
	defer p.running.Wait()
	defer cancel()
	look, end := s.cfg.Members.Subscribe()
	defer end()
	again := time.NewTicker(retryMax) // the cluster may become known without a notice
	defer again.Stop()
	for {
		if order, known := s.cfg.Order(); known {
			p.update(ctx, fleet.OtherControllers(s.cfg.Members.Members(), order.Cluster, s.cfg.Self))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		case <-again.C:
		}
	}
}

// update follows the controllers that are new in the ring, and no longer those that have
// left it.
func (p *peers) update(ctx context.Context, members []fleet.Member) {
	present := make(map[fleet.LifeID]bool)
	for _, m := range members {
		present[m.Life] = true
		if one := p.byLife[m.Life]; one != nil && one.at == m.GRPC {
			continue
		} else if one != nil {
			one.cancel()
		}
		ctx, cancel := context.WithCancel(ctx)
		p.byLife[m.Life] = &peer{at: m.GRPC, cancel: cancel}
		if m.GRPC != "" {
			p.running.Go(func() { p.follow(ctx, m) })
		}
	}
	for life, one := range p.byLife {
		if !present[life] {
			one.cancel()
			delete(p.byLife, life)
		}
	}
}

// follow keeps a watch of a controller's records open until ctx ends.
func (p *peers) follow(ctx context.Context, m fleet.Member) {
	log := p.s.log.With(slog.String("node", string(m.Node)), slog.String("life", string(m.Life)))
	wait := retryMin
	for {
		heard, err := p.watch(ctx, m)
		if ctx.Err() != nil {
			return
		}
		if heard {
			wait = retryMin
		}
		log.Debug("controller does not tell its sessions", "at", m.GRPC, "err", err)
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

// watch makes one connection, and takes in what comes until it ends. It reports whether
// anything came.
func (p *peers) watch(ctx context.Context, m fleet.Member) (heard bool, err error) {
	c, err := p.s.cfg.Dial(m)
	if err != nil {
		return false, fmt.Errorf("dial controller %s at %s: %w", m.Node, m.GRPC, err)
	}
	defer func() { _ = c.Close() }()
	order, _ := p.s.cfg.Order()
	defer p.s.links.remove(c)
	err = c.WatchSessions(ctx, order, func(records []fleet.SessionRecord) {
		if !heard {
			p.s.links.add(c)
		}
		heard = true
		p.s.cfg.Directory.merge(records)
	})
	return heard, err
}

// changes returns the records that have changed after a version, and the present version.
func (d *Directory) changes(after uint64) (out []fleet.SessionRecord, version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if after == d.version {
		return nil, after
	}
	for id, at := range d.changed {
		if at > after {
			out = append(out, *d.records[id])
		}
	}
	return out, d.version
}

// merge takes in records of another controller. What is new goes on to the others, so
// that all learn it even if some cannot reach each other.
func (d *Directory) merge(records []fleet.SessionRecord) {
	var ended []fleet.SessionID
	defer func() { d.tellEnded(ended) }() // without the lock
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for i := range records {
		in := &records[i]
		if in.ID == "" || now.After(in.Until) {
			continue
		}
		r := d.record(in.ID, in.Until)
		if in.Ended && !r.Ended {
			ended = append(ended, in.ID)
		}
		if mergeInto(r, in) {
			d.told[in.ID] = r.Used
			d.post(in.ID)
		}
	}
}

// mergeInto takes in another record of the session, and reports whether that changed
// anything. The order of merges makes no difference.
func mergeInto(r, in *fleet.SessionRecord) (changed bool) {
	if in.Used.After(r.Used) {
		r.Used, changed = in.Used, true
	}
	if !in.Began.IsZero() && (r.Began.IsZero() || in.Began.Before(r.Began)) {
		r.Began, changed = in.Began, true
	}
	if r.Ended || in.Ended {
		changed = changed || r.Ended != in.Ended && in.Ended
		*r = fleet.SessionRecord{ID: r.ID, Until: r.Until, Ended: true, Used: r.Used, Began: r.Began, Stamp: max(r.Stamp, in.Stamp)}
		return changed
	}
	all := make(map[fleet.ServerName]bool)
	for _, name := range slices.Concat(r.Opened, in.Opened) {
		all[name] = true
	}
	if len(all) > len(r.Opened) {
		r.Opened, changed = slices.Sorted(maps.Keys(all)), true
	}
	if in.Listened > r.Listened {
		r.Listener, r.Listened, changed = in.Listener, in.Listened, true
	}
	if in.Stamp > r.Stamp {
		r.Stamp, r.Level, r.Caller, r.Subscriptions, changed = in.Stamp, in.Level, in.Caller, in.Subscriptions, true
	}
	return changed
}
