package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// StartReplica takes the order to run a replica and returns the version of the
// report in which it first appears. A replica that is known, running or ended,
// is left as it is. Errors: fleet.ErrForeignCluster, fleet.ErrStaleEpoch,
// fleet.ErrDraining, fleet.ErrNotRecorded.
func (a *Agent) StartReplica(ctx context.Context, o fleet.Order, as fleet.Assignment) (uint64, error) {
	if as.ID == "" || as.Server == "" || as.Template == nil {
		return 0, fmt.Errorf("start replica %q: the assignment is not complete", as.ID)
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
	// The order matters: once on the board a replica must be found by a stop,
	// and stopAll comes after the board refuses.
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
		notify(a.look)
	}
	return version, nil
}

// StopReplica takes the order to drain and stop a replica and returns the
// version of the report that says so. One that is ending or has ended is left
// as it is; an unknown one is remembered as ended, so that its start, should
// it still be on the way, begins nothing.
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
	_ = a.orders.record(o) // told by itself; see ledger for why it is obeyed all the same
	if reason == "" {
		reason = "stopped on order"
	}
	a.mu.Lock()
	version, isNew := a.board.bury(id, reason)
	a.mu.Unlock()
	if isNew {
		a.log.Info("stop of an unknown replica remembered", "replica", id, "reason", reason)
		return version, nil
	}
	if r := a.replica(id); r != nil {
		r.stop(reason, time.Now().Add(r.order.Template.DrainTimeout))
		version = a.board.versionOf(id)
	}
	return version, nil
}

// Fence refuses all orders older than o from now on, and returns the version of
// a report that shows all that older ones did. Where the disk allows it, the
// next life of the node refuses them, too. renewed says that the leader repeats
// this every second while the node drains: its silence then means that there is
// no leader.
func (a *Agent) Fence(ctx context.Context, o fleet.Order, renewed bool) (uint64, error) {
	if err := a.awaitOrders(ctx); err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	if err := a.orders.admit(o); err != nil {
		return 0, fmt.Errorf("fence: %w", err)
	}
	a.orders.expect(o, renewed)
	_ = a.orders.record(o) // told by itself; see ledger for why it holds all the same
	a.obeying.Lock()       // what was admitted before is on the board now
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
