package projection

import (
	"context"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/catalogue"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/route"
)

// Notices posts a notice when what it belongs to may have changed; see
// notice.Board.
type Notices interface {
	Subscribe() (look <-chan struct{}, cancel func())
}

// Desired is what users asked for. Package store implements it.
type Desired interface {
	Notices
	State() *desired.State
}

// Observed is what runs. Package observe implements it.
type Observed interface {
	Notices
	Snapshot() *observe.Snapshot
	Shape() uint64 // of the next Snapshot; it grows when anything but load has changed
}

// Decided is how the servers are doing. Package reconcile implements it.
type Decided interface {
	Notices
	Status() []reconcile.ServerStatus
}

// Config says where a Publisher reads, and whom it updates.
type Config struct {
	Desired  Desired
	Observed Observed
	Decided  Decided

	Router    interface{ Update([]route.Server) }
	Catalogue interface{ Update(catalogue.Source) }
	// View is updated last: a fleet that says it is ready routes its calls.
	View interface {
		Publish(map[fleet.ServerName]*reconcile.ServerStatus, *observe.Snapshot)
	}
}

// loadPace is the least time between two projections of which the later shows only
// other loads. Workers report those many times a second, and they only rank replicas.
const loadPace = 250 * time.Millisecond

// Publisher keeps those who answer requests up to date.
type Publisher struct {
	cfg   Config
	tools toolSets  // of the last projection
	shape uint64    // of its snapshot
	at    time.Time // when it was made
}

// New returns a Publisher that has published once: what is desired is known
// before the first request.
func New(cfg Config) *Publisher {
	p := &Publisher{cfg: cfg}
	p.publish()
	return p
}

// Run publishes after every change: at once, or after loadPace if only loads have
// changed. It ends with ctx and returns nil.
func (p *Publisher) Run(ctx context.Context) error {
	desired, cancelDesired := p.cfg.Desired.Subscribe()
	defer cancelDesired()
	observed, cancelObserved := p.cfg.Observed.Subscribe()
	defer cancelObserved()
	decided, cancelDecided := p.cfg.Decided.Subscribe()
	defer cancelDecided()
	later := time.NewTimer(loadPace)
	defer later.Stop()
	for {
		p.publish()
		later.Stop()
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return nil
			case <-desired:
				due = true
			case <-observed:
				if due = p.cfg.Observed.Shape() != p.shape; !due {
					later.Reset(time.Until(p.at.Add(loadPace)))
				}
			case <-decided:
				due = true
			case <-later.C:
				due = true
			}
		}
	}
}

// publish reads the statuses first: a status must never be newer than the
// snapshot and the state beside it.
func (p *Publisher) publish() {
	status := byName(p.cfg.Decided.Status())
	snap := p.cfg.Observed.Snapshot()
	state := p.cfg.Desired.State()
	out := project(state, status, snap, p.tools)
	p.tools, p.shape, p.at = out.tools, snap.Shape, time.Now()
	p.cfg.Router.Update(out.routes)
	p.cfg.Catalogue.Update(out.offered)
	p.cfg.View.Publish(status, snap)
}

func byName(list []reconcile.ServerStatus) map[fleet.ServerName]*reconcile.ServerStatus {
	out := make(map[fleet.ServerName]*reconcile.ServerStatus, len(list))
	for i := range list {
		out[list[i].Name] = &list[i]
	}
	return out
}
