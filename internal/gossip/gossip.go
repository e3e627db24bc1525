// Package gossip knows who exists: which controllers and workers, at which
// addresses, in which life. It is the only importer of memberlist.
//
// It promises that every process that can be reached from one of its join
// addresses is found and found again, however often either side restarts or
// the network parts, and that a process that was killed is missed within a few
// seconds. It is a hint, not the truth: whether a worker can be used is for its
// gRPC connection to say.
//
// New binds and starts memberlist's own goroutines; Run joins, and stops them
// all when its context ends. Every other method may be called at any time.
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

// Config says who this process is and whom it joins.
type Config struct {
	// Member is what the others shall know. Gossip is filled in by New, and
	// Started, when zero, is now.
	Member fleet.Member
	// Bind is the host:port to listen on, TCP and UDP; port 0 takes a free one.
	Bind string
	// Advertise is the host or host:port where others reach us; "" is what is
	// bound, and the host's private address when that is 0.0.0.0.
	Advertise string
	// Join are host:port addresses to join, tried for ever; names are looked
	// up again each time, and all their addresses are tried.
	Join []string
	// PeersFile remembers the addresses of other members across restarts; ""
	// remembers them in memory only.
	PeersFile string
	Log       *slog.Logger
}

// Timing. A killed process is missed after a probe round (as many intervals as
// there are members, at most a few seconds for tens of nodes), one timeout and
// the suspicion: 1.5 s, or up to 4.5 s while nobody else confirms it.
const (
	probeInterval     = 500 * time.Millisecond
	probeTimeout      = 250 * time.Millisecond
	suspicionMult     = 3
	suspicionMaxMult  = 3
	streamTimeout     = 3 * time.Second // bounds one join attempt
	leaveTimeout      = time.Second
	updateTimeout     = time.Second
	minRetry          = 100 * time.Millisecond // while alone
	maxRetry          = 3 * time.Second
	rejoinInterval    = 5 * time.Second // in company; memberlist never rejoins by itself
	goneQuiet         = leaveTimeout    // a member that is gone is not joined: one that left answers so long
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
	addr    string // what others reach us at
	self    string // our name in the ring
	changed chan struct{}
	wake    chan struct{} // same as changed, for Run itself
	board   notice.Board  // same, for any number
	closed  chan struct{}
	stop    func() // shuts memberlist down, once
	hangUp  func() // ends the connections to others, and all that come
	meta    metaDelegate

	telling sync.Mutex   // one Update at a time
	member  fleet.Member // as last told
	mu      sync.Mutex
	members map[string]fleet.Member // by name in the ring
	gone    map[string]time.Time    // when members left or died, by address
	peers   *peers
}

// New binds cfg.Bind and starts to answer others; Run joins them.
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
		log.Warn("remembered peers cannot be used", "file", cfg.PeersFile, "error", err)
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
			log.Warn("gossip did not shut down cleanly", "error", err)
		}
		ll.mute()
	})
	return r, nil
}

// listConfig is memberlist's configuration without what ties it to a Ring.
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
	mc.ProbeInterval, mc.ProbeTimeout = probeInterval, probeTimeout
	mc.SuspicionMult, mc.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	mc.TCPTimeout = streamTimeout
	mc.PushPullInterval = pushPullInterval
	mc.HandoffQueueDepth = maxIncomingQueued
	return mc, nil
}

// Addr is the host:port where others reach this ring.
func (r *Ring) Addr() string { return r.addr }

// Changed is sent to, without blocking, whenever Members may have changed:
// look again. One receiver.
func (r *Ring) Changed() <-chan struct{} { return r.changed }

// Subscribe tells any number of receivers when Members may have changed.
func (r *Ring) Subscribe() (look <-chan struct{}, cancel func()) { return r.board.Subscribe() }

// Members returns all that are thought alive, this process included, ordered
// by node name. A node that was killed and came back may be there in two
// lives for a few seconds: the newer one comes first, and it wins.
func (r *Ring) Members() []fleet.Member {
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.members))
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b fleet.Member) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), b.Started.Compare(a.Started), cmp.Compare(a.Life, b.Life))
	})
	return all
}

// Update changes what the others know of this process, all but its name, and
// tells them. It returns when memberlist has taken it in; others hear of it in
// gossip's own time.
func (r *Ring) Update(change func(*fleet.Member)) error {
	r.telling.Lock()
	defer r.telling.Unlock()
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
	// A ring of one has nobody to hear it, and memberlist says so after the
	// timeout.
	if err := r.list.UpdateNode(updateTimeout); err != nil {
		r.log.Debug("nobody has confirmed what changed about this member yet", "error", err)
	}
	return nil
}

// Close drops out of the ring without a word, as a killed process would, and
// makes Run return. It is for a Ring that never ran, and for tests.
func (r *Ring) Close() { r.stop() }

// note wakes whoever looks at the members.
func (r *Ring) note() {
	for _, c := range []chan struct{}{r.changed, r.wake} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	r.board.Post()
}

// events is memberlist's view of a Ring. Its methods run in memberlist's
// receive path, under its lock: they copy, note and return.
type events Ring

func (e *events) NotifyJoin(n *memberlist.Node) {
	m, err := decodeMember(n.Name, n.Meta)
	if err != nil {
		e.log.Warn("a stranger in the ring is ignored", "name", n.Name, "address", n.Address(), "error", err)
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
	(*Ring)(e).note()
}

func (e *events) NotifyUpdate(n *memberlist.Node) { e.NotifyJoin(n) }

func (e *events) NotifyLeave(n *memberlist.Node) {
	e.mu.Lock()
	if m, ok := e.members[n.Name]; ok && n.Name != e.self {
		e.peers.seen(m.Gossip, time.Now())
	}
	delete(e.members, n.Name)
	e.gone[n.Address()] = time.Now() // memberlist does not tell which
	e.mu.Unlock()
	(*Ring)(e).note()
}

// resolveOne returns one IP address for a host; IPv4 is preferred, as
// memberlist's default binding is.
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
