// Package lookup repeats look-ups in the catalogue that fail only because this
// controller does not know the server yet, or because the server is idle and nobody
// has started it. Every front uses it, so that all of them wait in the same way.
//
// It starts no goroutine.
package lookup

import (
	"context"
	"errors"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// CatalogueLag bounds how much later than the router the catalogue learns of a
	// replica. They are updated one after the other.
	CatalogueLag = time.Second
	// NewServerLag bounds how long a request for a server that is not known waits. A
	// controller learns of a write with the leader's next heartbeat, and the catalogue
	// a moment later.
	NewServerLag = 150 * time.Millisecond
)

// Waiter waits for what look-ups need. Its methods may be called at any time.
type Waiter struct {
	// Changed posts a notice when look-ups may have other results; see notice.Board.
	Changed func() (look <-chan struct{}, cancel func())
	// Await waits until the server has a replica that takes calls, like a call that
	// came at since. Waiting has an idle server started.
	Await func(ctx context.Context, server fleet.ServerName, timeout time.Duration, since time.Time) error
}

// Repeat repeats a look-up that failed with err, like a call that came at since: once
// the server is known, as another controller may have answered its creation just now,
// and once the idle server that it needs has started. It returns the error of the last
// look-up, or why there was none, or context.Canceled if ctx has ended.
func (w Waiter) Repeat(ctx context.Context, err error, timeout time.Duration, since time.Time, lookUp func() error) error {
	return w.awaken(ctx, w.settle(ctx, err, lookUp), timeout, since, lookUp)
}

// Unknown reports whether a look-up failed because there is no such server or gateway.
func Unknown(err error) bool {
	return errors.Is(err, fleet.ErrUnknownServer) || errors.Is(err, fleet.ErrUnknownGateway)
}

// settle repeats the look-up while the server or gateway is not known.
func (w Waiter) settle(ctx context.Context, err error, lookUp func() error) error {
	if !Unknown(err) {
		return err
	}
	look, cancel := w.Changed()
	defer cancel()
	lag := time.NewTimer(NewServerLag)
	defer lag.Stop()
	for err = lookUp(); Unknown(err); err = lookUp() {
		select {
		case <-look:
		case <-lag.C:
			return err
		case <-ctx.Done():
			return cause(ctx, err)
		}
	}
	return err
}

// awaken repeats the look-up if it needs the tools of an idle server that never ran. It
// has the server started, and waits until its tools are known.
func (w Waiter) awaken(ctx context.Context, err error, timeout time.Duration, since time.Time, lookUp func() error) error {
	if idleServer(err) == "" {
		return err
	}
	look, cancel := w.Changed()
	defer cancel()
	for name := idleServer(err); name != ""; name = idleServer(err) {
		if err := w.Await(ctx, name, timeout, since); err != nil {
			return cause(ctx, err)
		}
		lag := time.NewTimer(CatalogueLag)
		for err = lookUp(); idleServer(err) == name; err = lookUp() {
			select {
			case <-look:
				continue
			case <-lag.C:
			case <-ctx.Done():
			}
			lag.Stop()
			return cause(ctx, err)
		}
		lag.Stop()
	}
	return err
}

// idleServer returns the idle server whose tools a look-up needs, "" if it needs
// none.
func idleServer(err error) fleet.ServerName {
	var idle interface{ Wakes() fleet.ServerName }
	if errors.As(err, &idle) {
		return idle.Wakes()
	}
	return ""
}

// cause returns context.Canceled if ctx has ended, else err: an error after that is a
// consequence.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}
