package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// StartReplica accepts the order to run a replica, and returns the version of the
// report in which the replica first appears. A known replica, running or ended, is
// left as it is. It fails with fleet.ErrForeignCluster, fleet.ErrStaleEpoch,
// fleet.ErrDraining or fleet.ErrNotRecorded.
func (a *Agent) StartReplica(ctx context.Context, o fleet.Order, as fleet.Assignment) (uint64, error) {
	if as.ID == "" || as.Server == "" || as.Template == nil {
		return 0, fmt.Errorf("start replica %q: the assignment is incomplete", as.ID)
	}
	if err := a.awaitOrders(ctx); err != nil {
		return 0, fmt.Errorf("start replica %s: %w", as.ID, err)
	}
	a.obeying.RLock()
	defer a.obeying.RUnlock()
	if err := a.orders.admit(o); err != nil {
		return 0, fmt.Errorf("start replica %s: %w", as.ID, err)
	}
	if err := a.orders.record(o); err != nil {
		return 0, fmt.Errorf("start replica %s: %w", as.ID, err)
	}
	r := newReplica(a, as)
	// Both happen under one lock: a stop must find a replica that is on the board,
	// and stopAll runs after the board refuses new ones.
	a.mu.Lock()
	version, isNew, err := a.board.add(as, r.stderr)
	if isNew {
		a.live.Store(as.ID, r)
		a.waiting = append(a.waiting, r)
	}
	a.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("start replica %s: %w", as.ID, err)
	}
	if isNew {
		r.log.Info("replica ordered", "revision", as.Revision, "generation", as.Generation, "epoch", o.Epoch)
		notify(a.ordered)
	}
	return version, nil
}

// StopReplica accepts the order to drain and stop a replica, and returns the version
// of the report that shows it. A replica that is stopping or has ended is left as it
// is. An unknown one is recorded as ended, so that a start that was delayed on its way
// does not start it.
func (a *Agent) StopReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID, reason string) (uint64, error) {
	if id == "" {
		return 0, errors.New("stop replica: no id")
	}
	if err := a.awaitOrders(ctx); err != nil {
		return 0, fmt.Errorf("stop replica %s: %w", id, err)
	}
	a.obeying.RLock()
	defer a.obeying.RUnlock()
	if err := a.orders.admit(o); err != nil {
		return 0, fmt.Errorf("stop replica %s: %w", id, err)
	}
	_ = a.orders.record(o) // logs its error; see ledger for why the order is obeyed all the same
	if reason == "" {
		reason = "stopped on order"
	}
	a.mu.Lock()
	version, isNew := a.board.bury(id, reason)
	a.mu.Unlock()
	if isNew {
		a.log.Info("stop of an unknown replica recorded", "replica", id, "reason", reason)
		return version, nil
	}
	if r := a.replica(id); r != nil {
		r.stop(reason, time.Now().Add(r.order.Template.DrainTimeout))
		version = a.board.versionOf(id)
	}
	return version, nil
}

// ActivateReplica accepts the order to make a spare an ordinary replica, which takes
// calls as soon as it is READY, and returns the version of the report that shows it. A
// replica that is no spare, is stopping, or has ended is left as it is. It fails with
// fleet.ErrUnknownReplica for an unknown one.
func (a *Agent) ActivateReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID) (uint64, error) {
	if err := a.awaitOrders(ctx); err != nil {
		return 0, fmt.Errorf("activate replica %s: %w", id, err)
	}
	a.obeying.RLock()
	defer a.obeying.RUnlock()
	if err := a.orders.admit(o); err != nil {
		return 0, fmt.Errorf("activate replica %s: %w", id, err)
	}
	_ = a.orders.record(o) // logs its error; see ledger for why the order is obeyed all the same
	version, known := a.board.activate(id, func() {
		if r := a.replica(id); r != nil {
			r.open.Store(true)
			r.log.Info("spare activated", "epoch", o.Epoch)
		}
	})
	if !known {
		return 0, fmt.Errorf("activate replica %s: %w", id, fleet.ErrUnknownReplica)
	}
	return version, nil
}

// Fence refuses all orders older than o from now on, and returns the version of a
// report that shows the effect of those. If the disk can be written, the next life of
// the node refuses them too. renewed means that the leader repeats Fence every second
// while the node drains, so that its silence means that there is no leader.
func (a *Agent) Fence(ctx context.Context, o fleet.Order, renewed bool) (uint64, error) {
	if err := a.awaitOrders(ctx); err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	if err := a.orders.admit(o); err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	a.orders.expect(o, renewed)
	_ = a.orders.record(o) // logs its error; see ledger for why the order holds all the same
	a.obeying.Lock()       // the effect of admitted orders is on the board now
	defer a.obeying.Unlock()
	return a.board.now(), nil
}

// awaitOrders waits until orders are taken.
func (a *Agent) awaitOrders(ctx context.Context) error {
	select {
	case <-a.stopped:
		return fleet.ErrDraining
	default:
	}
	select {
	case <-a.swept:
	case <-a.stopped:
		return fleet.ErrDraining
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}
