package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// maxKept is how large a catalogue may be to be kept in desired state: past it
// a controller that starts lists the server's tools only once a replica of it
// is ready.
const maxKept = 4 << 20

// keepRetry is how soon a catalogue is tried again that could not be kept.
const keepRetry = 2 * time.Second

// catalogueKeeper writes what each revision offers to desired state, so that
// controllers that start know the tools of servers that have no replica.
type catalogueKeeper struct {
	desired  *store.Store
	observer *observe.Observer
	log      *slog.Logger
}

// Run writes after every change until ctx, the leader's tenure, ends.
func (k *catalogueKeeper) Run(ctx context.Context) error {
	look, cancel := k.observer.Subscribe()
	defer cancel()
	tooLarge := make(map[string]bool) // by hash: told once
	shape, first := uint64(0), true
	for {
		var retry <-chan time.Time
		snap := k.observer.Snapshot()
		if first || snap.Shape != shape { // load changes all the time
			first, shape = false, snap.Shape
			for _, c := range k.changed(snap) {
				if size := sizeOf(c.Catalogue); size > maxKept {
					if !tooLarge[c.Catalogue.Hash] {
						tooLarge[c.Catalogue.Hash] = true
						k.log.Warn("catalogue too large to be kept", "server", c.Name, "revision", c.Revision, "bytes", size)
					}
					continue
				}
				if _, err := k.desired.Propose(ctx, c); err != nil && !errors.Is(err, context.Canceled) {
					k.log.Warn("catalogue not kept", "server", c.Name, "err", err)
					first, retry = true, time.After(keepRetry)
				}
			}
		}
		if retry != nil {
			select { // news would be tried again and again
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

// changed returns the catalogues of replicas that are or were READY and are not
// kept yet, one for each revision.
func (k *catalogueKeeper) changed(snap *observe.Snapshot) []desired.SetCatalogue {
	type revision struct {
		server fleet.ServerName
		number fleet.Revision
	}
	state := k.desired.State()
	seen := make(map[revision]bool)
	var out []desired.SetCatalogue
	for _, r := range snap.Sorted() {
		c := snap.Catalogues[r.Catalogue]
		server := state.Servers[r.Server]
		key := revision{r.Server, r.Revision}
		if c == nil || server == nil || server.Kept(r.Revision) == nil || seen[key] {
			continue
		}
		seen[key] = true // replicas that disagree would overwrite each other's for ever
		if kept := server.Catalogue(r.Revision); kept == nil || kept.Hash != c.Hash {
			out = append(out, desired.SetCatalogue{Name: r.Server, Revision: r.Revision, Catalogue: c})
		}
	}
	return out
}

func sizeOf(c *fleet.Catalogue) int {
	n := len(c.ServerInfo) + len(c.Capabilities) + len(c.Instructions)
	for _, t := range c.Tools {
		n += len(t)
	}
	return n
}
