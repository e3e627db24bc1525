package catalogue

import (
	"context"
	"errors"
	"log/slog"
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
	tooLarge := make(map[string]bool) // hashes that were logged
	shape, done := uint64(0), false
	for {
		var retry <-chan time.Time
		if !done || k.Observed.Shape() != shape {
			snap := k.Observed.Snapshot()
			shape, done = snap.Shape, true
			for _, c := range unkept(k.Desired.State(), snap) {
				if size := sizeOf(c.Catalogue); size > maxKept {
					if !tooLarge[c.Catalogue.Hash] {
						tooLarge[c.Catalogue.Hash] = true
						k.Log.Warn("catalogue too large to be kept", "server", c.Name, "revision", c.Revision, "bytes", size)
					}
					continue
				}
				_, err := k.Desired.Propose(ctx, c)
				if err == nil || errors.Is(err, context.Canceled) {
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

// unkept returns the catalogues of replicas that are or were READY and that are
// not in the state, one for each revision.
func unkept(state *desired.State, snap *observe.Snapshot) (out []desired.SetCatalogue) {
	type revision struct {
		server fleet.ServerName
		number fleet.Revision
	}
	seen := make(map[revision]bool)
	for _, r := range snap.Sorted() {
		c := snap.Catalogues[r.Catalogue]
		server := state.Servers[r.Server]
		key := revision{r.Server, r.Revision}
		if c == nil || server == nil || server.Kept(r.Revision) == nil || seen[key] {
			continue
		}
		seen[key] = true // else replicas that disagree would overwrite each other's for ever
		if kept := server.Catalogue(r.Revision); kept == nil || kept.Hash != c.Hash {
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
