package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// write is a request to change desired state: what its query and headers say.
type write struct {
	match desired.Match
	dry   bool
	key   string
	// warnings are about the document that was sent.
	warnings []fleetfile.Warning
}

const maxKey = 255 // of idempotency keys, as package desired keeps them

func writeOf(r *http.Request) (write, error) {
	var o write
	if err := web.Query(r, web.Flag("dry_run", &o.dry)); err != nil {
		return o, err
	}
	var err error
	if o.match, err = matchOf(r); err != nil {
		return o, err
	}
	o.key = r.Header.Get("Idempotency-Key")
	if len(o.key) > maxKey || !web.Printable(o.key) {
		return o, web.BadRequest("Idempotency-Key must have at most %d printable characters", maxKey)
	}
	return o, nil
}

// done is what became of a write.
type done struct {
	state   *desired.State // after it
	changes []desired.Change
	plan    []api.PlannedAction // of a dry run
}

// change writes a command, or only tries it out. It does so on the leader: else
// its error wraps fleet.ErrNotLeader. Any error but fleet.ErrOutcomeUnknown
// means that nothing was written.
func (h *API) change(ctx context.Context, c desired.Command, dry bool) (done, error) {
	st, err := h.cfg.Desired.Read(ctx)
	if err != nil {
		return done{}, err
	}
	if dry {
		return h.rehearse(ctx, st, c)
	}
	if !c.Changes(st) {
		return done{state: st}, nil // it is so already: nothing to keep
	}
	res, err := h.cfg.Desired.Propose(ctx, c)
	if err == nil {
		err = res.Err
	}
	if err != nil {
		return done{}, h.refused(st, c, unknownIfGivenUp(err))
	}
	return done{state: res.State, changes: res.Changes}, nil
}

// unknownIfGivenUp says of a write that nobody waited for what that means.
func unknownIfGivenUp(err error) error {
	if !errors.Is(err, fleet.ErrOutcomeUnknown) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("%w: it was not waited for: %w", fleet.ErrOutcomeUnknown, err)
	}
	return err
}

// rehearse does to a state in memory what the command would do for real.
func (h *API) rehearse(ctx context.Context, st *desired.State, c desired.Command) (done, error) {
	c.Format, c.Time = desired.Needs(c), time.Now()
	res := st.Apply(st.Applied+1, uint64(st.Lead.Term), c)
	if res.Err != nil {
		return done{}, h.refused(st, c, res.Err)
	}
	plan, err := h.cfg.Preview(ctx, res.State)
	if err != nil {
		return done{}, err
	}
	return done{state: res.State, changes: res.Changes, plan: plan}, nil
}

// refused tells the nearest names where a server is unknown.
func (h *API) refused(st *desired.State, c desired.Command, err error) error {
	if !errors.Is(err, fleet.ErrUnknownServer) {
		return err
	}
	switch {
	case c.Delete != nil:
		return unknownServer(st, c.Delete.Name)
	case c.Scale != nil:
		return unknownServer(st, c.Scale.Name)
	case c.Restart != nil:
		return unknownServer(st, c.Restart.Name)
	case c.Rollback != nil:
		return unknownServer(st, c.Rollback.Name)
	}
	return err
}

// dryRun answers a write that was only tried out.
func dryRun(w *web.Response, d done, warnings ...fleetfile.Warning) error {
	return w.JSON(http.StatusOK, api.DryRun{DryRun: true, Changes: changesOf(d.changes), Plan: notNil(d.plan), Warnings: warningsOf(warnings)})
}

// written answers a write.
func written(w *web.Response, changes []desired.Change, etag string, index uint64, v any) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if index > 0 {
		header.Set(headerIndex, strconv.FormatUint(index, 10))
	}
	if etag != "" {
		header.Set("Etag", `"`+etag+`"`)
	}
	return w.JSON(statusOf(changes), v)
}

// statusOf tells by the status what a write sets going: 201 a server is there
// that was not, 202 replicas start or stop, 200 neither.
func statusOf(changes []desired.Change) int {
	status := http.StatusOK
	for _, c := range changes {
		switch c.Kind {
		case desired.Created:
			if len(changes) == 1 {
				return http.StatusCreated
			}
			status = http.StatusAccepted
		case desired.Updated, desired.Deleted, desired.Scaled, desired.Restarted, desired.RolledBack, desired.Draining:
			status = http.StatusAccepted
		case desired.Tuned:
			if slices.ContainsFunc(c.Fields, func(d desired.Difference) bool { return d.Field == "replicas" }) {
				status = http.StatusAccepted
			}
		}
	}
	return status
}

func changesOf(changes []desired.Change) []api.Change {
	out := make([]api.Change, 0, len(changes))
	for _, c := range changes {
		out = append(out, api.Change{
			Server: c.Server, Node: c.Node, Kind: string(c.Kind), Revision: c.Revision, Fields: differencesOf(c.Fields),
		})
	}
	return out
}

func differencesOf(fields []desired.Difference) []api.Difference {
	out := make([]api.Difference, 0, len(fields))
	for _, f := range fields {
		out = append(out, api.Difference{Field: f.Field, From: rawOrNull(f.From), To: rawOrNull(f.To)})
	}
	return out
}

func rawOrNull(text string) json.RawMessage {
	if text == "" {
		return json.RawMessage("null")
	}
	return json.RawMessage(text)
}
