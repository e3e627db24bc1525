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

// write has the options of a write to desired state, from its query and headers.
type write struct {
	match    desired.Match
	dry      bool
	retry    bool // of a PUT
	key      string
	warnings []fleetfile.Warning // about the document that was sent
}

func writeOf(r *http.Request) (write, error) {
	var o write
	parameters := []web.Param{web.Flag("dry_run", &o.dry)}
	if r.Method == http.MethodPut {
		parameters = append(parameters, web.Flag("retry", &o.retry))
	}
	if err := web.Query(r, parameters...); err != nil {
		return o, err
	}
	var err error
	if o.match, err = matchOf(r); err != nil {
		return o, err
	}
	o.key = r.Header.Get("Idempotency-Key")
	if len(o.key) > desired.MaxKeyLength || !web.Printable(o.key) {
		return o, web.BadRequest("Idempotency-Key must have at most %d printable characters", desired.MaxKeyLength)
	}
	return o, nil
}

// done is the outcome of a write.
type done struct {
	state    *desired.State // after it
	changes  []desired.Change
	warnings []desired.Warning
	plan     []api.PlannedAction // of a dry run
}

// change carries out a command, or a dry run of it. On any controller but the
// leader its error wraps fleet.ErrNotLeader. Any error but fleet.ErrOutcomeUnknown
// means that nothing was written.
func (h *API) change(ctx context.Context, c desired.Command, dry bool) (done, error) {
	if dry {
		return h.rehearse(ctx, c)
	}
	res, err := h.cfg.Desired.Propose(ctx, c)
	if err != nil {
		return done{}, withHint(h.cfg.Desired.State(), c, unknownIfGivenUp(err))
	}
	return done{state: res.State, changes: res.Changes, warnings: res.Warnings}, nil
}

// unknownIfGivenUp returns the error of a write that nobody waited for: its
// outcome is unknown, unless nothing was written.
func unknownIfGivenUp(err error) error {
	if errors.Is(err, fleet.ErrOutcomeUnknown) || errors.Is(err, fleet.ErrNotLeader) ||
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: it was not waited for: %w", fleet.ErrOutcomeUnknown, err)
}

// rehearse applies the command to a state in memory only.
func (h *API) rehearse(ctx context.Context, c desired.Command) (done, error) {
	st, err := h.cfg.Desired.Read(ctx)
	if err != nil {
		return done{}, err
	}
	res := st.DryRun(time.Now(), c)
	if res.Err != nil {
		return done{}, withHint(st, c, res.Err)
	}
	plan, err := h.cfg.Preview(ctx, res.State)
	if err != nil {
		return done{}, err
	}
	warnings := slices.Concat(res.Warnings, toolChanges(st, res.State, res.Changes))
	return done{state: res.State, changes: res.Changes, warnings: warnings, plan: plan}, nil
}

// withHint adds the nearest names to the refusal of a command about a server
// that does not exist.
func withHint(st *desired.State, c desired.Command, err error) error {
	if errors.Is(err, fleet.ErrUnknownServer) {
		return unknownServer(st, c.Subject().Server)
	}
	return err
}

// dryRun answers a dry run.
func dryRun(w *web.Response, d done, warnings ...fleetfile.Warning) error {
	return w.JSON(http.StatusOK, api.DryRun{DryRun: true, Changes: changesOf(d.changes), Plan: notNil(d.plan), Warnings: warningsOf(warnings, d.warnings)})
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

// statusOf returns the status of a write: 201 if it created one server and did
// nothing else, 202 if replicas start or stop because of it, else 200.
func statusOf(changes []desired.Change) int {
	switch {
	case len(changes) == 1 && changes[0].Kind == desired.Created:
		return http.StatusCreated
	case slices.ContainsFunc(changes, func(c desired.Change) bool { return c.MovesReplicas() }):
		return http.StatusAccepted
	default:
		return http.StatusOK
	}
}

func changesOf(changes []desired.Change) []api.Change {
	out := make([]api.Change, 0, len(changes))
	for _, c := range changes {
		out = append(out, api.Change{
			Server: c.Server, Node: c.Node, Gateway: c.Gateway, Kind: string(c.Kind), Revision: c.Revision, Fields: differencesOf(c.Fields), Reason: c.Reason,
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
