// Package gossip finds the controllers and workers of the cluster: their
// addresses and their lives. It is the only importer of memberlist.
//
// A process that can be reached from one of the join addresses is found, and
// found again after restarts and partitions. A killed process disappears within
// a few seconds. Gossip is a hint: the gRPC connection to a worker decides whether
// it can be used.
//
// New binds and starts memberlist's own goroutines. Run joins, and stops them all
// when its context ends. All other methods may be called at any time.
package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Config is the configuration of a Ring.
type Config struct {
	// Member describes this process to the others. New sets Gossip, and sets
	// Started to now if it is zero.
	Member fleet.Member
	// Bind is the host:port to listen on, for TCP and UDP. Port 0 means any free
	// one.
	Bind string
	// Advertise is the host or host:port where others reach us. "" means the
	// bound address, or the host's private address if that is 0.0.0.0.
	Advertise string
	// Join lists host:port addresses to join. They are tried for ever, and names
	// are looked up again each time. All addresses of a name are tried.
	Join []string
	// PeersFile keeps the addresses of other members across restarts. "" keeps
	// them in memory only.
	PeersFile string
	// ProbeInterval is how often a member is probed, which has half of it to answer; 0
	// means half a second. Tests with hundreds of members in one process probe less.
	ProbeInterval time.Duration
	Log           *slog.Logger
}

// Timing. A killed process is declared dead after a probe round, one timeout and
// the suspicion. A round takes one interval per member, a few seconds for tens of
// nodes. The suspicion takes 1.5 s, or up to 4.5 s while nobody else confirms it.
const (
	probeInterval     = 500 * time.Millisecond
	suspicionMult     = 3
	suspicionMaxMult  = 3
	streamTimeout     = 3 * time.Second // bounds one join attempt
	leaveTimeout      = time.Second
	updateTimeout     = time.Second
	minRetry          = 100 * time.Millisecond // while alone
	maxRetry          = 3 * time.Second
	rejoinInterval    = 5 * time.Second // while not alone; memberlist never rejoins by itself
	goneQuiet         = leaveTimeout    // a member that has gone is not joined; one that left answers this long
	resolveTimeout    = 3 * time.Second
	rememberedPeers   = 64
	peersTriedAtOnce  = 8
	forgetPeersAfter  = 30 * 24 * time.Hour
	pushPullInterval  = 10 * time.Second
	maxIncomingQueued = 4096
)

// Ring is this process's membership.
type Ring struct {
	list    *memberlist.Memberlist
	log     *slog.Logger
	join    []string
	addr    string // where others reach us
	self    string // our name in the ring
	changed chan struct{}
	wake    chan struct{} // the same for Run
	board   notice.Board  // the same for any number of receivers
	closed  chan struct{}
	stop    func() // shuts memberlist down, once
	hangUp  func() // ends connections to others, also those made later
	meta    metaDelegate

	updating sync.Mutex   // one Update at a time
	member   fleet.Member // as last published
	mu       sync.Mutex
	members  map[string]fleet.Member // by name in the ring
	gone     map[string]time.Time    // when members left or died, by address
	peers    *peers
}

// New binds cfg.Bind and starts to answer others. Run joins them.
func New(cfg Config) (*Ring, error) {
	log := cfg.Log.With("component", "gossip")
	member := cfg.Member
	if member.Started.IsZero() {
		member.Started = time.Now()
	}
	meta, err := encodeMeta(member)
	if err != nil {
		return nil, err
	}
	for _, a := range cfg.Join {
		if _, _, err := splitHostPort(a); err != nil {
			return nil, fmt.Errorf("join address: %w", err)
		}
	}
	remembered, err := loadPeers(cfg.PeersFile)
	if err != nil {
		log.Warn("remembered peers ignored", "file", cfg.PeersFile, "err", err)
	}
	mc, err := listConfig(cfg)
	if err != nil {
		return nil, err
	}

	r := &Ring{
		log: log, join: cfg.Join, self: ringName(member),
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), closed: make(chan struct{}),
		members: make(map[string]fleet.Member), gone: make(map[string]time.Time), peers: remembered, member: member,
	}
	mc.Name = r.self
	r.meta.meta.Store(&meta)
	mc.Delegate = &r.meta
	mc.Events = (*events)(r)
	ll := &listLog{log: log}
	mc.Logger = ll.logger()
	ctx, hangUp := context.WithCancel(context.Background())
	r.hangUp = hangUp
	bound, err := newTransport(ctx, mc, mc.Logger)
	if err != nil {
		hangUp()
		return nil, fmt.Errorf("gossip on %s: %w", cfg.Bind, err)
	}
	mc.Transport = bound
	if r.list, err = memberlist.Create(mc); err != nil {
		hangUp()
		return nil, fmt.Errorf("gossip on %s: %w", cfg.Bind, errors.Join(err, bound.Shutdown()))
	}
	r.addr = r.list.LocalNode().Address()
	r.stop = sync.OnceFunc(func() {
		close(r.closed)
		r.hangUp()
		if err := r.list.Shutdown(); err != nil {
			log.Warn("gossip did not shut down cleanly", "err", err)
		}
		ll.mute()
	})
	return r, nil
}

// listConfig returns the part of memberlist's configuration that does not depend on
// the Ring.
func listConfig(cfg Config) (*memberlist.Config, error) {
	mc := memberlist.DefaultLANConfig()
	host, port, err := splitHostPort(cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	mc.BindAddr, mc.BindPort = "0.0.0.0", port
	if host != "" {
		if mc.BindAddr, err = resolveOne(host); err != nil {
			return nil, fmt.Errorf("gossip address %s: %w", cfg.Bind, err)
		}
	}
	if cfg.Advertise != "" {
		host, adPort, err := splitHostPort(cfg.Advertise)
		if err != nil {
			host, adPort = cfg.Advertise, port
		}
		if mc.AdvertiseAddr, err = resolveOne(host); err != nil {
			return nil, fmt.Errorf("advertised gossip address %s: %w", cfg.Advertise, err)
		}
		mc.AdvertisePort = adPort
	}
	mc.ProbeInterval = cmp.Or(cfg.ProbeInterval, probeInterval)
	mc.ProbeTimeout = mc.ProbeInterval / 2
	mc.SuspicionMult, mc.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	mc.TCPTimeout = streamTimeout
	mc.PushPullInterval = pushPullInterval
	mc.HandoffQueueDepth = maxIncomingQueued
	return mc, nil
}

// Addr returns the host:port where others reach this process.
func (r *Ring) Addr() string { return r.addr }

// Changed returns a channel that receives a value when Members may have changed.
// It serves one receiver.
func (r *Ring) Changed() <-chan struct{} { return r.changed }

// Subscribe is Changed for any number of receivers.
func (r *Ring) Subscribe() (look <-chan struct{}, cancel func()) { return r.board.Subscribe() }

// Members returns the members that are believed alive, with this process, ordered
// by node name. A node that was killed and has come back may have two lives for a
// few seconds. The newer one comes first.
func (r *Ring) Members() []fleet.Member {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.members))
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b fleet.Member) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), b.Started.Compare(a.Started), cmp.Compare(a.Life, b.Life))
	})
	return all
}

// Update changes how this process is described to the others. Its node, life and
// role stay. Update returns when memberlist has the change. It reaches the others
// later.
func (r *Ring) Update(change func(*fleet.Member)) error {
	r.updating.Lock()
	defer r.updating.Unlock()
	next := r.member
	change(&next)
	next.Node, next.Life, next.Role = r.member.Node, r.member.Life, r.member.Role
	meta, err := encodeMeta(next)
	if err != nil {
		return err
	}
	if next == r.member {
		return nil
	}
	r.member = next
	r.meta.meta.Store(&meta)
	// In a ring of one nobody receives it, and memberlist returns an error after
	// the timeout.
	if err := r.list.UpdateNode(updateTimeout); err != nil {
		r.log.Debug("change of this member not confirmed yet", "err", err)
	}
	return nil
}

// Close leaves the ring without notice, as a killed process would, and makes Run
// return. It is for a Ring that never ran, and for tests.
func (r *Ring) Close() { r.stop() }

// notify wakes all receivers of changes.
func (r *Ring) notify() {
	for _, c := range []chan struct{}{r.changed, r.wake} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	r.board.Post()
}

// events receives memberlist's events for a Ring. Its methods run in memberlist's
// receive path, under its lock, so they only copy and notify.
type events Ring

func (e *events) NotifyJoin(n *memberlist.Node) {
	m, err := decodeMember(n.Name, n.Meta)
	if err != nil {
		e.log.Warn("unknown kind of member ignored", "name", n.Name, "address", n.Address(), "err", err)
		return
	}
	m.Gossip = n.Address()
	e.mu.Lock()
	e.members[n.Name] = m
	delete(e.gone, m.Gossip)
	if n.Name != e.self {
		e.peers.seen(m.Gossip, time.Now())
	}
	e.mu.Unlock()
	(*Ring)(e).notify()
}

func (e *events) NotifyUpdate(n *memberlist.Node) { e.NotifyJoin(n) }

func (e *events) NotifyLeave(n *memberlist.Node) {
	e.mu.Lock()
	if m, ok := e.members[n.Name]; ok && n.Name != e.self {
		e.peers.seen(m.Gossip, time.Now())
	}
	delete(e.members, n.Name)
	e.gone[n.Address()] = time.Now() // whether it left or died, which memberlist does not report
	e.mu.Unlock()
	(*Ring)(e).notify()
}

// resolveOne returns one IP address of a host. It prefers IPv4, like memberlist's
// default binding.
func resolveOne(host string) (string, error) {
	if ip := net.ParseIP(host); ip != nil {
		return ip.String(), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); ip.Is4() {
			return ip.String(), nil
		}
	}
	if len(ips) == 0 {
		return "", fmt.Errorf("%s has no address", host)
	}
	return ips[0].String(), nil
}

func splitHostPort(addr string) (string, int, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port of %s: %w", addr, err)
	}
	return host, int(port), nil
}
