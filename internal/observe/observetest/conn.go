package observetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// conn is one connection to a worker, with the network's faults.
type conn struct {
	fleet  *Fleet
	worker *Worker
	closed chan struct{}
	once   sync.Once
}

func (c *conn) StartReplica(ctx context.Context, o fleet.Order, a fleet.Assignment) (uint64, error) {
	return c.order(ctx, func() (uint64, error) { return c.worker.start(o, a) })
}

func (c *conn) StopReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID, reason string) (uint64, error) {
	c.fleet.noteStop(id)
	return c.order(ctx, func() (uint64, error) { return c.worker.stop(o, id, reason) })
}

func (c *conn) ActivateReplica(ctx context.Context, o fleet.Order, id fleet.ReplicaID) (uint64, error) {
	return c.order(ctx, func() (uint64, error) { return c.worker.activate(o, id) })
}

func (c *conn) PullImage(ctx context.Context, o fleet.Order, image string, policy fleet.PullPolicy) error {
	_, err := c.order(ctx, func() (uint64, error) { return c.worker.pull(o, image, policy) })
	return err
}

func (c *conn) Fence(ctx context.Context, o fleet.Order) (uint64, error) {
	return c.order(ctx, func() (uint64, error) { return c.worker.barrier(o) })
}

// order carries one order through the network. Once sent it arrives or is lost,
// whether or not the sender still waits.
func (c *conn) order(ctx context.Context, obey func() (uint64, error)) (uint64, error) {
	type answer struct {
		version uint64
		err     error
	}
	answers := make(chan answer, 1)
	deliver := func(answered bool) func() {
		return func() {
			if !c.worker.Reachable() {
				return
			}
			version, err := obey()
			if answered {
				answers <- answer{version, err}
			}
		}
	}
	delay := func(x Faults) time.Duration { return x.OrderDelay }
	if !c.fleet.chance(func(x Faults) float64 { return x.DropOrder }) {
		time.AfterFunc(c.fleet.delay(delay), deliver(!c.fleet.chance(func(x Faults) float64 { return x.DropAnswer })))
	}
	if c.fleet.chance(func(x Faults) float64 { return x.Duplicate }) {
		time.AfterFunc(10*c.fleet.delay(delay), deliver(false))
	}
	select {
	case a := <-answers:
		return a.version, a.err
	case <-ctx.Done():
		return 0, fmt.Errorf("order: %w", ctx.Err())
	case <-c.closed:
		return 0, ErrUnreachable
	}
}

// Watch delivers reports in order, delayed, and breaks as the faults say.
func (c *conn) Watch(ctx context.Context, o fleet.Order, on func(fleet.Report)) error {
	w := c.worker
	wake := make(chan struct{}, 1)
	w.mu.Lock()
	broken := w.broken
	if w.dead || w.cut {
		w.mu.Unlock()
		return ErrUnreachable
	}
	if err := w.fenceWatch(o); err != nil {
		w.mu.Unlock()
		return err
	}
	w.wake[wake] = struct{}{}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.wake, wake)
	}()
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for since := uint64(0); ; {
		r := w.report(since)
		since = r.Version
		late := time.NewTimer(c.fleet.delay(func(x Faults) time.Duration { return x.ReportDelay }) + w.muted())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return errors.New("stream broken")
		case <-late.C:
		}
		if c.fleet.chance(func(x Faults) float64 { return x.BreakStream }) {
			return errors.New("stream broken by the network")
		}
		on(r)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-broken:
			return errors.New("stream broken")
		case <-wake:
		case <-beat.C:
		}
	}
}

func (w *Worker) muted() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, time.Until(w.muteUntil))
}

func (c *conn) Call(context.Context, fleet.CallRequest, fleet.CallHooks) (fleet.CallResult, error) {
	return fleet.CallResult{}, fleet.ErrNotDelivered
}

func (c *conn) Logs(context.Context, fleet.ReplicaID, int, bool, func([]fleet.LogLine) error) error {
	return fleet.ErrUnknownReplica
}

func (c *conn) Fail(error) {}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *conn) ReadStream(context.Context, fleet.ReadRequest, func([]fleet.Message) error) error {
	return fleet.ErrUnknownStream
}

func (c *conn) Answer(context.Context, fleet.Answer) error { return fleet.ErrNotAsked }

func (c *conn) CancelCall(context.Context, fleet.StreamID, string, string) error {
	return fleet.ErrUnknownStream
}

func (c *conn) SendToSession(context.Context, fleet.SessionID, fleet.ReplicaID, []byte) error {
	return fleet.ErrUnknownReplica
}

func (c *conn) Listen(ctx context.Context, _ <-chan fleet.Interests, _ func(fleet.Hearing)) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
