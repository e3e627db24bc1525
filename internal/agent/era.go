package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// discoverWait is how long a server may take to answer server/discover before it is
	// sent initialize too. It begins with the process, so most of it is its start.
	discoverWait = 2 * time.Second
	// modernWait is the same for a server that is known to be modern.
	modernWait = 30 * time.Second
)

// opening returns how the replica's conversation is opened.
func (r *replica) opening() stdio.Opening {
	o := stdio.Opening{Era: r.order.Template.Era, Known: r.order.Era, Wait: discoverWait}
	if r.order.Template.PerSession() {
		o.Known = fleet.EraLegacy // clients' sessions are of that era, if the server has it
		return o
	}
	if found, ok := r.eras.Load(r.revision()); ok {
		o.Known = found.(fleet.Era)
	}
	if r.again != fleet.EraAuto {
		o.Known = r.again
	}
	if o.Known == fleet.EraModern {
		o.Wait = modernWait
	}
	return o
}

// foundEra remembers the era for the revision's next replicas here.
func (r *replica) foundEra(era fleet.Era) { r.eras.Store(r.revision(), era) }

// startsAgain reports whether the process that could not be opened is to be replaced by
// another one, because of what it was asked. That happens once, and not if another
// process of the revision has ended without being asked, too.
func (r *replica) startsAgain(err error) bool {
	_, ends := r.ending.Load(r.revision())
	switch again := r.again != fleet.EraAuto; {
	case again && lost(err):
		r.ending.Store(r.revision(), true)
		return false
	case again:
		return false
	case errors.Is(err, stdio.ErrLateDiscover):
		r.again = fleet.EraModern
	case errors.Is(err, stdio.ErrDiedOfDiscover) && !ends:
		r.again = fleet.EraLegacy
	}
	return r.again != fleet.EraAuto
}

// openError returns why the conversation was not opened, for operators.
func (r *replica) openError(ctx context.Context, err error) error {
	era := r.order.Template.Era
	switch {
	case ctx.Err() != nil && era == fleet.EraModern:
		return startError(ctx, "server/discover", err)
	case ctx.Err() != nil:
		return startError(ctx, "initialize", err)
	case era == fleet.EraModern && errors.Is(err, stdio.ErrNotModern):
		return fmt.Errorf("%w; era: modern does not fit it", err)
	case errors.Is(err, stdio.ErrLateDiscover):
		return fmt.Errorf("%w; era: modern in its spec lets it take longer", err)
	}
	return err
}

// discard ends a process that never took calls, and removes it.
func (r *replica) discard(ctx context.Context, s *session) {
	r.end(ctx, s)
	if err := r.remove(ctx, s); err != nil {
		r.log.Warn("process not removed", "err", err)
	}
	r.stderr.begin()
	r.strays.begin()
}
