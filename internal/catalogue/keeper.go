package catalogue

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

const (
	// maxKept is how large a catalogue may be to be kept in desired state. The
	// tools of a server with a larger one are known only while a replica of it is
	// ready.
	maxKept = 4 << 20
	// keepRetry is how soon a write that failed is tried again.
	keepRetry = 2 * time.Second
	// keepPause is the least time between two writes of a revision's catalogue that differ
	// in what may change often. Some servers report new resources every second.
	keepPause = time.Minute
)

// Desired is desired state. Package store implements it.
type Desired interface {
	State() *desired.State
	Propose(ctx context.Context, c desired.Command) (desired.Result, error)
	Subscribe() (look <-chan struct{}, cancel func())
}

// Observed is what runs. Package observe implements it.
type Observed interface {
	Snapshot() *observe.Snapshot
	Shape() uint64 // of the next Snapshot
	Subscribe() (look <-chan struct{}, cancel func())
}

// Keeper writes what each revision offers to desired state, so that a
// controller that starts knows the tools of servers that have no replica. Only
// the leader runs it.
type Keeper struct {
	Desired  Desired
	Observed Observed
	Log      *slog.Logger
}

// Run writes after every change. It ends with ctx, the leader's tenure, and
// returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	look, cancel := k.Observed.Subscribe()
	defer cancel()
	shape, done := uint64(0), false
	keeping := keeping{log: k.Log, tooLarge: make(map[keptRevision]bool), written: make(map[keptRevision]time.Time)}
	for {
		var retry <-chan time.Time
		if !done || k.Observed.Shape() != shape {
			snap := k.Observed.Snapshot()
			shape, done = snap.Shape, true
			state := k.Desired.State()
			keeping.forget(state)
			for _, c := range unkept(state, snap) {
				if wait := keeping.pause(state.Servers[c.Name].Catalogue(c.Revision), c, time.Now()); wait > 0 {
					done, retry = false, time.After(min(wait, keepRetry))
					continue
				}
				if c.Catalogue = keeping.fit(c); c.Catalogue == nil {
					continue
				}
				err := k.keep(ctx, c)
				if err == nil || errors.Is(err, context.Canceled) {
					keeping.written[keptRevision{c.Name, c.Revision}] = time.Now()
					continue
				}
				if !errors.Is(err, fleet.ErrNotLeader) { // else the tenure ends, or leadership is being handed over
					k.Log.Warn("catalogue not kept", "server", c.Name, "err", err)
				}
				done, retry = false, time.After(keepRetry)
			}
		}
		if retry != nil {
			select { // not for changes: each would cause another attempt
			case <-ctx.Done():
				return nil
			case <-retry:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		}
	}
}

// keep writes a catalogue. While a controller of an earlier version lives, it writes what
// that one understands.
func (k *Keeper) keep(ctx context.Context, c desired.SetCatalogue) error {
	_, err := k.Desired.Propose(ctx, c)
	if errors.Is(err, fleet.ErrUnsupported) {
		c.Catalogue = onlyTools(c.Catalogue)
		c.Catalogue.Era, c.Catalogue.Versions = "", nil
		_, err = k.Desired.Propose(ctx, c)
	}
	return err
}

// keptRevision names a revision whose catalogue is kept.
type keptRevision struct {
	server fleet.ServerName
	number fleet.Revision
}

// keeping remembers what a Keeper has written and logged.
type keeping struct {
	log      *slog.Logger
	tooLarge map[keptRevision]bool // that were logged
	written  map[keptRevision]time.Time
}

// forget forgets revisions that are not kept any more.
func (k *keeping) forget(state *desired.State) {
	gone := func(r keptRevision) bool {
		sv := state.Servers[r.server]
		return sv == nil || sv.Kept(r.number) == nil
	}
	maps.DeleteFunc(k.tooLarge, func(r keptRevision, _ bool) bool { return gone(r) })
	maps.DeleteFunc(k.written, func(r keptRevision, _ time.Time) bool { return gone(r) })
}

// pause returns how long a write has to wait. Tools are kept at once.
func (k *keeping) pause(kept *fleet.Catalogue, c desired.SetCatalogue, now time.Time) time.Duration {
	written, known := k.written[keptRevision{c.Name, c.Revision}]
	if !known || kept == nil || !sameTools(kept, c.Catalogue) {
		return 0
	}
	return max(0, keepPause-now.Sub(written))
}

// sameTools reports whether two catalogues differ at most in their other lists.
func sameTools(a, b *fleet.Catalogue) bool {
	return a.Era == b.Era && a.Protocol == b.Protocol && bytes.Equal(a.Capabilities, b.Capabilities) && slices.EqualFunc(a.Tools, b.Tools, bytes.Equal)
}

// fit returns the catalogue, without its other lists if it is too large with them, or nil
// if it is still too large then.
func (k *keeping) fit(c desired.SetCatalogue) *fleet.Catalogue {
	revision, size := keptRevision{c.Name, c.Revision}, sizeOf(c.Catalogue)
	if size <= maxKept {
		delete(k.tooLarge, revision)
		return c.Catalogue
	}
	if !k.tooLarge[revision] {
		k.tooLarge[revision] = true
		k.log.Warn("catalogue too large to be kept", "server", c.Name, "revision", c.Revision, "bytes", size)
	}
	if less := onlyTools(c.Catalogue); sizeOf(less) <= maxKept {
		return less
	}
	return nil
}

// onlyTools returns the catalogue without its other lists. It keeps the hash.
func onlyTools(c *fleet.Catalogue) *fleet.Catalogue {
	less := *c
	less.Resources, less.Templates, less.Prompts, less.Hints = nil, nil, nil, nil
	return &less
}

// unkept returns the catalogues of replicas that are or were READY and that are
// not in the state, one for each revision.
func unkept(state *desired.State, snap *observe.Snapshot) (out []desired.SetCatalogue) {
	seen := make(map[keptRevision]bool)
	for _, r := range snap.Sorted() {
		c := snap.Catalogues[r.Catalogue]
		server := state.Servers[r.Server]
		key := keptRevision{r.Server, r.Revision}
		if c == nil || server == nil || server.Kept(r.Revision) == nil || seen[key] {
			continue
		}
		seen[key] = true // else replicas that disagree would overwrite each other's for ever
		if kept := server.Catalogue(r.Revision); kept == nil || kept.Hash != c.Hash || kept.Era != c.Era {
			out = append(out, desired.SetCatalogue{Name: r.Server, Revision: r.Revision, Catalogue: c})
		}
	}
	return out
}

// sizeOf returns about how many bytes a catalogue takes.
func sizeOf(c *fleet.Catalogue) int {
	n := len(c.ServerInfo) + len(c.Capabilities) + len(c.Instructions)
	for _, list := range [][][]byte{c.Tools, c.Resources, c.Templates, c.Prompts} {
		for _, element := range list {
			n += len(element)
		}
	}
	return n
}
