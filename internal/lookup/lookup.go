package httpapi

import (
	"context"
	"errors"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// maxToolsWait bounds how long a request for a list of tools waits until an idle
	// server has started.
	maxToolsWait = 30 * time.Second
	// catalogueLag bounds how much later than the router the catalogue learns of a
	// replica. They are updated one after the other.
	catalogueLag = time.Second
	// newServerLag bounds how long a request for a server that is not known waits. A
	// controller learns of a write with the leader's next heartbeat, and the catalogue
	// a moment later.
	newServerLag = 150 * time.Millisecond
)

// settle repeats a look-up in the catalogue that failed with err, if the server is
// not known: another controller may have answered its creation just now. It returns
// the error of the last look-up.
func (h *API) settle(ctx context.Context, err error, lookUp func() error) error {
	if !errors.Is(err, fleet.ErrUnknownServer) {
		return err
	}
	look, cancel := h.cfg.Catalogue.Subscribe()
	defer cancel()
	lag := time.NewTimer(newServerLag)
	defer lag.Stop()
	for err = lookUp(); errors.Is(err, fleet.ErrUnknownServer); err = lookUp() {
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

// awaken repeats a look-up in the catalogue that failed with err, if it needs the
// tools of an idle server that never ran. It has the server started, and waits until
// its tools are known, like a call that came at since. It returns the error of the
// last look-up, or why there was none.
func (h *API) awaken(ctx context.Context, err error, timeout time.Duration, since time.Time, lookUp func() error) error {
	if idleServer(err) == "" {
		return err
	}
	look, cancel := h.cfg.Catalogue.Subscribe()
	defer cancel()
	for name := idleServer(err); name != ""; name = idleServer(err) {
		if err := h.cfg.Router.Await(ctx, name, timeout, since); err != nil {
			return cause(ctx, err)
		}
		lag := time.NewTimer(catalogueLag)
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
