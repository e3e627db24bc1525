package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// onceWait is how long the only call of a session may take to come, once the replica is the
// session's. It may never come: its client leaves, or the controller that has it dies.
const onceWait = 30 * time.Second

// claim is the gift of a raw spare to a session. A replica has one in its life.
type claim struct {
	start fleet.SessionStart
	done  chan struct{} // closed when the rest is set
	// One of these is set, as in fleet.SessionOpened.
	result, refusal []byte
	err             error
}

// OpenSession gives a raw spare to a session. It sends the client's initialize as it is,
// restores what the session had set, and opens the replica to the session's calls. The
// replica ends if any of that fails. If ctx ends meanwhile, it goes on. A repeated order
// gets the answer of the first. It fails with
//   - fleet.ErrNotDelivered for a replica that cannot be given to the session,
//   - fleet.ErrReplicaLost if the replica ends before it has answered,
//   - fleet.ErrForeignCluster or fleet.ErrStaleEpoch.
func (a *Agent) OpenSession(ctx context.Context, o fleet.Order, start fleet.SessionStart) (none fleet.SessionOpened, err error) {
	fail := func(err error) (fleet.SessionOpened, error) {
		return none, fmt.Errorf("open a session at replica %s: %w", start.Replica, err)
	}
	if start.Session == "" || mcp.Valid(start.Initialize) != nil {
		return fail(errors.New("it needs a session and the params of initialize"))
	}
	if err := a.awaitOrders(ctx); err != nil {
		return fail(err)
	}
	c, err := a.claim(o, start)
	if err != nil {
		return fail(err)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	}
	if c.err != nil {
		return fail(c.err)
	}
	return fleet.SessionOpened{Version: a.board.versionOf(start.Replica), Result: c.result, Error: c.refusal}, nil
}

// claim obeys the order, once.
func (a *Agent) claim(o fleet.Order, start fleet.SessionStart) (*claim, error) {
	a.obeying.RLock()
	defer a.obeying.RUnlock()
	if err := a.orders.admit(o); err != nil {
		return nil, err
	}
	_ = a.orders.record(o) // logs its error; see ledger for why the order is obeyed all the same
	r := a.replica(start.Replica)
	if r == nil {
		return nil, fmt.Errorf("%w: %w", fleet.ErrNotDelivered, fleet.ErrUnknownReplica)
	}
	return r.claim(start)
}

// claim gives the replica to a session, if it is free and READY.
func (r *replica) claim(start fleet.SessionStart) (*claim, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch c := r.claimed; {
	case c != nil && c.start.Session == start.Session:
		return c, nil
	case c != nil:
		return nil, fmt.Errorf("%w: it belongs to another session", fleet.ErrNotDelivered)
	case r.reason != "":
		return nil, fmt.Errorf("%w: %w", fleet.ErrNotDelivered, fleet.ErrDraining)
	case !r.claimable:
		return nil, fmt.Errorf("%w: it is no spare that waits for a session", fleet.ErrNotDelivered)
	}
	c := &claim{start: start, done: make(chan struct{})}
	r.claimed = c
	r.claims <- c
	r.board.edit(r.order.ID, fleet.PhaseReady, func(rep *fleet.Replica) bool {
		rep.Session, rep.SessionAt = start.Session, time.Now()
		return true
	})
	return c, nil
}

// CloseSession stops the replica of a session at once: running calls end. It fails with
// fleet.ErrUnknownReplica for a replica that does not belong to the session. It is no
// order of a leader, since whoever knows a session may end it.
func (a *Agent) CloseSession(_ context.Context, id fleet.ReplicaID, session fleet.SessionID, reason string) error {
	if r := a.replica(id); r != nil && session != "" && r.session() == session {
		r.stop(reason, time.Now())
		return nil
	}
	return fmt.Errorf("close the session of replica %s: %w", id, fleet.ErrUnknownReplica)
}

// session returns the session that the replica was given to, "" for none.
func (r *replica) session() fleet.SessionID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed == nil {
		return ""
	}
	return r.claimed.start.Session
}

// awaitSession reports a raw spare as READY, waits until it is given to a session, and
// opens it to that. It reports false if the replica ended before, or was stopped. An error
// means that the server did not answer the client's initialize.
func (r *replica) awaitSession(ctx context.Context, s *session) (opened bool, err error) {
	ready := r.board.move(r.order.ID, fleet.PhaseReady, func(rep *fleet.Replica) {
		rep.Reason, rep.ReadyAt, rep.ColdStart = "", time.Now(), r.cold
	})
	if !ready {
		return false, nil
	}
	r.turn.giveBack()
	r.log.Info("replica waits for a session", "after", r.cold.Total(), "cold_start", r.cold)
	r.setClaimable(true)
	defer r.endClaims()
	select {
	case <-s.gone:
		return false, nil
	case <-r.stopping:
		return false, nil
	case c := <-r.claims:
		defer close(c.done)
		if c.err = r.openTo(ctx, s, c); c.err != nil {
			err := c.err
			c.err = fmt.Errorf("%w: %w", fleet.ErrReplicaLost, errors.New(r.mask.Text(err.Error())))
			return false, err
		}
		if c.refusal != nil {
			return false, mcp.ParseError(c.refusal)
		}
		return true, nil
	}
}

func (r *replica) setClaimable(is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claimable = is
}

// endClaims refuses a claim that came too late.
func (r *replica) endClaims() {
	r.setClaimable(false)
	select {
	case c := <-r.claims:
		c.err = fmt.Errorf("%w: it has ended", fleet.ErrNotDelivered)
		close(c.done)
	default:
	}
}

// openTo makes the conversation that of the session's client. It sets the claim's result,
// or its refusal.
func (r *replica) openTo(ctx context.Context, s *session, c *claim) error {
	timeout := r.startTimeout()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
	defer cancel()
	log := r.log.With("session", shortSession(c.start.Session))
	began := time.Now()
	if err := r.openHub(&c.start); err != nil {
		return err
	}
	reply := s.conn.Request(ctx, mcp.MethodInitialize, mcp.OneLine(c.start.Initialize))
	defer reply.Release()
	if reply.Err != nil {
		return fmt.Errorf("initialize: %w", reply.Err)
	}
	if reply.Error != nil {
		c.refusal = append([]byte(nil), reply.Error...)
		return nil
	}
	init, err := mcp.ParseInitializeResult(reply.Result)
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	s.introduced, c.result = true, append([]byte(nil), reply.Result...)
	if err := s.conn.Notify(mcp.MethodInitialized, nil); err != nil {
		return fmt.Errorf("notifications/initialized: %w", err)
	}
	restore(ctx, s, &c.start.Restore, log.Warn)
	r.cold.Handshake = time.Since(began)
	r.board.edit(r.order.ID, fleet.PhaseReady, func(rep *fleet.Replica) bool {
		rep.Spare, rep.ColdStart = false, r.cold
		r.open.Store(true)
		return true
	})
	log.Info("replica belongs to a session", "protocol", init.ProtocolVersion, "after", r.cold.Handshake,
		"subscriptions", len(c.start.Restore.Subscriptions))
	return nil
}

// restore sets again what a session had set at a replica that is lost. A server that
// refuses any of it serves the session all the same.
func restore(ctx context.Context, s *session, what *fleet.Restore, warn func(string, ...any)) {
	ask := func(method string, params []byte) {
		reply := s.conn.Request(ctx, method, params)
		defer reply.Release()
		if err := reply.Failure(); err != nil {
			warn("a setting of the session is not restored", "method", method, "err", err)
		}
	}
	if what.Level != "" {
		ask(mcp.MethodSetLevel, append(mcp.AppendString([]byte(`{"level":`), what.Level), '}'))
	}
	for _, uri := range what.Subscriptions {
		if ctx.Err() != nil {
			return
		}
		ask(mcp.MethodSubscribe, mcp.URIParams(uri))
	}
}

// shortSession returns what logs show of a session.
func shortSession(id fleet.SessionID) string { return string(id[:min(8, len(id))]) }
