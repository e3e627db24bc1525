// Package route sends one call to the least loaded ready replica and retries
// only what is safe.
//
// It promises:
//
//   - Calls of a server get slots in the order in which they came.
//   - No replica has more calls of this controller than max_ongoing_requests of
//     its server. A call that timed out counts until its worker reports its end. One
//     whose client a modern server asks for input does not count until it goes on,
//     which it does at once: the server does not know of it meanwhile.
//   - No more than max_queued_requests wait.
//   - A call ends by its deadline, which includes the time in the queue.
//   - A call that may have reached a replica is sent to another only if its tool
//     declares that safe.
//
// A call that was inside a replica when it died may have been the cause. It is
// repeated once, with a replica to itself. A second death ends it. Calls that are
// known to end replicas have a replica to themselves from the start. So one call
// ends two replicas at most, and no calls of others with them.
//
// A replica that does not answer while several calls wait for it is silent. It
// gets new calls only if the others are full. Once calls have timed out there, it
// gets new ones only if there is no other replica.
//
// The router knows replicas from Update and from workers' replies. The load from
// other controllers ranks replicas but bounds nothing, since it is known only
// roughly. Backend carries calls to a replica.
//
// Of a server with a canary, a bounded share of the calls goes to the replicas of
// its new revision, see Canary.
//
// A replica that belongs to a session takes the calls of that session and no others.
// They wait for a slot there, and are sent to no other.
//
// A call that is about a task goes to the replica that has the task, also if that takes
// no other calls any more. It does not wait for a slot: the task has begun, and its owner
// must be able to cancel it.
//
// The package starts no goroutine; a call runs in its caller's, and so does Run,
// which has servers woken that rest while calls wait for them. All methods may
// be called at any time.
package route

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

const (
	// maxRepeats is how often a call that may have run is sent again. A call that
	// was inside a replica when it died is sent again only once, see suspect.
	// Deaths that another call caused do not count.
	maxRepeats = 2
	// maxReroutes is how often a call that certainly reached no server, or was
	// inside replicas that other calls ended, is sent elsewhere. The deadline
	// bounds what that costs. Two are too few when replicas die faster than the
	// report of it travels.
	maxReroutes = 16
	// keepAfter is how long a call waits here until its worker is told to keep its stream
	// however soon it ends. Its client has perhaps been given the stream's id by then.
	keepAfter = 25 * time.Millisecond
)

// Backend sends calls to one worker. It is called by many goroutines, and must be
// comparable: replicas with equal backends are on the same worker.
//
// Call returns soon after ctx ends. It fails with fleet.ErrNotDelivered if the
// message certainly did not reach the replica, with fleet.ErrReplicaLost if that
// is unknown and no answer will come, or with another error of fleet.
type Backend interface {
	Call(ctx context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error)
}

// Server is one server as the router needs it.
type Server struct {
	Name            fleet.ServerName
	MaxOngoing      int // per replica; 0: no bound
	MaxQueued       int
	MaxRequestBytes int64         // of a call, as one line; 0: no bound
	CallTimeout     time.Duration // 0: the default
	MaxCallDuration time.Duration // 0: the default
	Replicas        []Replica     // those that take calls
	// Apart are further replicas that run, such as those that drain. They take calls about
	// tasks that they have. Their Backend may be nil: then they cannot be reached now.
	Apart []Replica
	// PerSession means that each session has one of the Replicas to itself. A call that
	// belongs to none has to be given one first.
	PerSession bool
	// Canary bounds the share of the calls that go to the replicas marked so. Nil:
	// all replicas are alike.
	Canary *Canary
	Ends   []End // of replicas that died lately
	// Down says why waiting is of no use while there are no Replicas: a start
	// failed, or no replica is wanted. Calls then fail at once, queued ones too.
	// If it is "", calls wait, because a replica is on its way.
	Down string
	// Pending says why there are no Replicas yet, in words. Calls that time out while
	// they wait for one say it too.
	Pending string
	// Stopped means stopped by hand: Replicas is empty, and calls fail at once
	// with fleet.ErrStopped.
	Stopped bool
	// Resting means that there will be more Replicas when calls need them. Calls
	// wait.
	Resting bool
}

// Replica is a replica that takes calls. One that fails its health check should be
// left out, since calls to it would time out.
type Replica struct {
	ID      fleet.ReplicaID
	Zone    string
	Backend Backend
	Ongoing int    // as its worker last reported
	Tools   *Tools // that it lists; nil: unknown, so it gets calls of any tool
	Canary  bool   // it is of the revision that Server.Canary is about
	// Session is whose calls it takes, and no others; "": those of all.
	Session fleet.SessionID
}

// End says whether a call may have ended a replica.
type End struct {
	ID fleet.ReplicaID
	// FromOutside means that something else ended it, see fleet.Exit.
	FromOutside bool
}

// Config configures a Router.
type Config struct {
	Zone     string                // of this controller: preferred among equals
	Registry prometheus.Registerer // nil: no metrics
}

// Router routes the calls of all servers.
type Router struct {
	zone    string
	rnd     func(n int) int
	metrics *metrics
	look    chan struct{} // Wanted may list more: see Run
	queues  notice.Board  // Queues may have changed
	views   notice.Board  // sessions may have other replicas

	mu      sync.Mutex // held by Update
	servers atomic.Pointer[map[fleet.ServerName]*server]
}

// New returns a router that knows no server yet.
func New(cfg Config) *Router {
	r := &Router{zone: cfg.Zone, rnd: rand.IntN, look: make(chan struct{}, 1)}
	r.servers.Store(&map[fleet.ServerName]*server{})
	r.metrics = newMetrics(cfg.Registry, r)
	return r
}

// Update sets all servers. Calls on a replica that is no longer among them run to
// their end. Queued calls of a server that is no longer among them fail.
func (r *Router) Update(servers []Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.views.Post()
	old := *r.servers.Load()
	next := make(map[fleet.ServerName]*server, len(servers))
	added := false
	for i := range servers {
		name := servers[i].Name
		s := old[name]
		if s == nil {
			s, added = newServer(name, r), true
		}
		s.update(&servers[i]) // before calls can find it: a new one has no limits yet
		next[name] = s
	}
	if !added && len(next) == len(old) {
		return
	}
	r.servers.Store(&next)
	for name, s := range old {
		if next[name] == nil {
			s.remove()
			r.metrics.forget(name)
		}
	}
}

// Wanted lists the servers that rest while calls wait for a replica of them.
func (r *Router) Wanted() (names []fleet.ServerName) {
	for name, s := range *r.servers.Load() {
		s.mu.Lock()
		if s.isWanted() {
			names = append(names, name)
		}
		s.mu.Unlock()
	}
	return names
}

// Queues returns how many calls of each server wait, for a replica or in Await.
// Servers without any are left out.
func (r *Router) Queues() map[fleet.ServerName]int {
	queues := make(map[fleet.ServerName]int)
	for name, s := range *r.servers.Load() {
		s.mu.Lock()
		if n := s.waiting(); n > 0 {
			queues[name] = n
		}
		s.mu.Unlock()
	}
	return queues
}

// Subscribe posts a notice when Queues may have changed; see notice.Board.
func (r *Router) Subscribe() (look <-chan struct{}, cancel func()) { return r.queues.Subscribe() }

// Admit returns an error if calls of a server are refused now because too many
// wait. It costs far less than reading a call first. Without a name it answers for
// the only server; among several it cannot know which one is meant.
func (r *Router) Admit(name fleet.ServerName) error {
	servers := *r.servers.Load()
	s := servers[name]
	if name == "" && len(servers) == 1 {
		for _, s = range servers {
		}
	}
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue.length+s.awaiting.length == 0 || !s.isFull() {
		return nil
	}
	err := s.overloaded()
	s.metrics.ended(nil, err, 0)
	return err
}

// Call sends a call to a replica of its server and returns the answer. An
// error is one of fleet's, wrapped, or the cause of ctx's end. Of a result
// with a Stream, ctx must outlive the reading.
func (r *Router) Call(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	s := (*r.servers.Load())[c.Server]
	if s == nil {
		return fleet.CallResult{}, fmt.Errorf("%w %q", fleet.ErrUnknownServer, c.Server)
	}
	if c.Session != "" || c.Replica != "" {
		c.Idempotent = false // other replicas do not know the session, or the task
	}
	now := time.Now()
	start := now
	if !c.Since.IsZero() {
		start = c.Since
	}
	if err := s.tooLarge(&c); err != nil {
		s.metrics.ended(nil, err, 0)
		return fleet.CallResult{}, err
	}
	res, err := s.call(ctx, &c, start, now)
	s.metrics.ended(&res, err, time.Since(start))
	return res, err
}

// envelopeBytes is more than what a worker puts around the parameters of a
// call: JSON-RPC's members, the id, the progress token, the end of the line.
const envelopeBytes = 128

// tooLarge refuses a call that is larger than the server takes.
func (s *server) tooLarge(c *fleet.Call) error {
	limit, size := s.maxRequest.Load(), int64(len(c.Params)+len(c.Method)+envelopeBytes)
	if limit == 0 || size <= limit {
		return nil
	}
	return fmt.Errorf("server %q: %w: its message is about %d bytes, and max_request_bytes of the server is %d", s.name, fleet.ErrRequestTooLarge, size, limit)
}

func (s *server) call(ctx context.Context, c *fleet.Call, start, now time.Time) (fleet.CallResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	d := s.newDeadline(c.Timeout, start, now, cancel)
	res, err := s.try(ctx, c, d)
	d.stop()
	if res.Stream != nil {
		// The rest of the answer still comes under this context.
		res.Stream = &stream{res.Stream, cancel}
		return res, err
	}
	cancel(nil)
	return res, err
}

// try sends the call until it is answered or must not be sent again.
func (s *server) try(ctx context.Context, c *fleet.Call, d *deadline) (fleet.CallResult, error) {
	req := fleet.CallRequest{
		Method: c.Method, Params: c.Params, NoMeta: c.NoMeta, Trace: c.Trace,
		Stream: c.Stream, Timeout: d.window, Ask: c.Ask, Logs: c.Logs,
	}
	w := want{tool: c.Tool, session: c.Session, queued: c.Queued, replica: c.Replica, blocks: c.Method == mcp.MethodTaskResult}
	var key callKey // while any call is blamed
	blamed := s.blame.any()
	if blamed {
		key = keyOf(c)
		if c.Session == "" && c.Replica == "" { // else it has no other replica to be alone on
			w.suspect = s.guiltySuspect(key)
		}
	}
	repeats, reroutes := 0, 0
	var deaths []*death // that it was inside of
	for {
		a, err := s.acquire(ctx, &w)
		if err != nil {
			if ctx.Err() != nil {
				s.mu.Lock()
				pending := s.pending()
				s.mu.Unlock()
				err = s.cause(ctx, d, "while waiting for a free replica"+pending)
			}
			return fleet.CallResult{}, err
		}
		req.Replica, a.deadline, a.yields = a.replica.id, d, c.Ask
		if c.Stream.ID != "" {
			req.Stream.Keep = c.Stream.Keep || a.since.Sub(d.start) >= keepAfter
			req.Limit = max(d.last.Sub(a.since), 1)
		}
		if c.Placed != nil {
			c.Placed(req.Replica)
		}
		hooks := fleet.CallHooks{
			Progress: a.progress, Notification: c.Notification, Message: c.Message, Sent: c.Sent, Waiting: a.waits, Released: a.released,
		}
		res, err := a.replica.backend.Call(ctx, req, hooks)
		if a.suspect != nil && (ctx.Err() != nil || !isDeath(err)) {
			s.returned(a)
		}
		if err == nil {
			switch {
			case blamed:
				s.clearBlame(key)
			case s.blame.any(): // since the call began
				s.clearBlame(keyOf(c))
			}
			res.Replica = req.Replica
			return res, nil
		}
		if ctx.Err() != nil {
			if err = s.cause(ctx, d, ""); errors.Is(err, fleet.ErrTimeout) {
				a.timedOut()
			}
			return fleet.CallResult{}, err
		}
		again := false
		w.front, w.last = false, refusal{by: a.replica, view: a.view}
		switch {
		case errors.Is(err, fleet.ErrNotDelivered) && c.Replica != "":
			err = fmt.Errorf("%w: %w", fleet.ErrNoReplica, err) // no other has the task
		case errors.Is(err, fleet.ErrNotDelivered):
			again = reroutes < maxReroutes
			reroutes++
			w.front, w.last.undelivered = true, a
		case isDeath(err):
			death := s.deathOf(a)
			if w.suspect != nil && c.Idempotent {
				death.await(ctx)
			}
			w.suspect, err = s.recordDeath(a, death, c, w.suspect, deaths, repeats, err)
			again = w.suspect != nil
			deaths = append(deaths, death)
		case errors.Is(err, fleet.ErrReplicaLost):
			again = c.Idempotent && repeats < maxRepeats
			repeats++
		}
		if !again {
			return fleet.CallResult{}, fmt.Errorf("server %q, replica %s: %w", s.name, a.replica.id, err)
		}
		s.metrics.retries.Inc()
	}
}

// cause returns why a call's context ended.
func (s *server) cause(ctx context.Context, d *deadline, where string) error {
	err := context.Cause(ctx)
	if !errors.Is(err, fleet.ErrTimeout) {
		return err // the caller ended it
	}
	if where != "" {
		where = " " + where
	}
	return fmt.Errorf("server %q: %w after %v%s", s.name, fleet.ErrTimeout, time.Since(d.start).Round(time.Millisecond), where)
}
