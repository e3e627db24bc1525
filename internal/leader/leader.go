// Package leader finds the controller that leads, and has it do what only the
// leader can do: here, if that is this controller, or by a request to its API.
//
// Raft says who leads. Gossip says at which address it is, perhaps a moment
// later. The package retries nothing: if nobody leads the error says so, and
// wraps fleet.ErrNoLeader, and the caller knows whether to ask again.
//
// CatchUp finds out from the leader whether this controller knows all that was
// committed before it started. Its Run is the package's only long-lived loop,
// and runs in its caller's goroutine. All methods may be called at any time.
package leader

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	dialTimeout = 2 * time.Second
	idleTimeout = 30 * time.Second
	// waitPoll is a fallback for Wait: while the disk hangs the store learns of a new
	// leader without posting a notice.
	waitPoll = 100 * time.Millisecond
)

// Election says who leads. Package store implements it.
type Election interface {
	ID() fleet.ControllerID // this controller
	Leader() (id fleet.ControllerID, term fleet.Epoch, ok bool)
	// Subscribe posts a notice when Leader may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Ring says where members are. Package gossip implements it.
type Ring interface {
	Members() []fleet.Member
	// Subscribe posts a notice when Members may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// Leader is the controller that leads.
type Leader struct {
	ID   fleet.ControllerID
	Self bool   // it is this controller
	HTTP string // host:port of its API; "" if Self
}

// notFound says why there is no leader to ask.
type notFound string

func (e notFound) Error() string { return string(e) }

func (e notFound) Unwrap() error { return fleet.ErrNoLeader }

// Finder finds the leader.
type Finder struct {
	election Election
	ring     Ring
	client   *http.Client
}

// New returns a Finder. Close closes its idle connections.
func New(election Election, ring Ring) *Finder {
	return &Finder{election, ring, &http.Client{Transport: &http.Transport{
		// No proxy, whatever the environment names: fleet files with secrets
		// are sent to the leader.
		DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
		IdleConnTimeout: idleTimeout,
	}}}
}

// Close closes the connections to leaders that no request uses.
func (f *Finder) Close() { f.client.CloseIdleConnections() }

// Find returns the leader. The error wraps fleet.ErrNoLeader if nobody leads as
// far as this controller knows, or if gossip has not found its address yet.
func (f *Finder) Find() (Leader, error) {
	id, _, ok := f.election.Leader()
	if !ok {
		return Leader{}, notFound("no controller leads at the moment")
	}
	if id == f.election.ID() {
		return Leader{ID: id, Self: true}, nil
	}
	m, _ := fleet.FindController(f.ring.Members(), id)
	if m.HTTP == "" {
		return Leader{}, notFound("the leader's address is not known yet")
	}
	return Leader{ID: id, HTTP: m.HTTP}, nil
}

// Member returns the leader as the ring knows it, and whether it is this controller. The
// error is as that of Find.
func (f *Finder) Member() (m fleet.Member, self bool, err error) {
	l, err := f.Find()
	if err != nil || l.Self {
		return m, l.Self, err
	}
	if m, _ = fleet.FindController(f.ring.Members(), l.ID); m.GRPC == "" {
		return m, false, notFound("the leader's address is not known yet")
	}
	return m, false, nil
}

// Do has the leader do something: it calls here if this controller leads, and
// there with a client of the leader's API if another one does. Without a leader
// it calls neither, and returns Find's error.
func (f *Finder) Do(ctx context.Context, here func(context.Context) error, there func(context.Context, *api.Client) error) error {
	l, err := f.Find()
	if err != nil {
		return err
	}
	if l.Self {
		return here(ctx)
	}
	client, err := f.Client(l)
	if err != nil {
		return err
	}
	return there(ctx, client)
}

// Client returns a client of the API of a leader that is not this controller.
func (f *Finder) Client(l Leader) (*api.Client, error) { return api.NewClient(l.HTTP, f.client) }

// Wait returns nil once the leader satisfies a condition, or the cause of ctx's
// end.
func (f *Finder) Wait(ctx context.Context, condition func(Leader) bool) error {
	elected, cancelElected := f.election.Subscribe()
	defer cancelElected()
	found, cancelFound := f.ring.Subscribe()
	defer cancelFound()
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	for {
		if l, err := f.Find(); err == nil && condition(l) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-elected:
		case <-found:
		case <-poll.C:
		}
	}
}
