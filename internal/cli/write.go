package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
)

// The exit codes, beside 0.
const (
	exitError   = 1
	exitUsage   = 2
	exitUnready = 3
	exitChanged = 4
	exitUnknown = 5
)

// exitCodes is what the help says of them.
const exitCodes = `Exit codes:
  0  it was done; with --wait: and has become ready
  1  an error; of a command that changes something: nothing was changed, or it says what was
  2  the command makes no sense
  3  it was done, but --wait did not see it become ready
  4  nothing was changed, because what it was meant for has changed meanwhile
  5  whether it was done is unknown: the answer was lost`

// unknownError is a write of which nobody knows what became of it.
type unknownError struct{ err error }

func (e *unknownError) Error() string {
	return "it is unknown whether this was done; look before you try again: " + e.err.Error()
}
func (e *unknownError) Unwrap() error { return e.err }

// written tells errors of writes apart: only a controller's own answer, or
// never having reached one, says that nothing was done.
func written(err error) error {
	if err == nil || unsent(err) {
		return err
	}
	if answer, ok := errors.AsType[*api.Error](err); ok && answer.Code != api.CodeOutcomeUnknown && (answer.Code != "" || answer.Status < 500) {
		return err
	}
	return &unknownError{err}
}

// isCode tells whether a controller answered with this code.
func isCode(err error, code string) bool {
	answer, ok := errors.AsType[*api.Error](err)
	return ok && answer.Code == code
}

// explain adds all that is wrong with a file or a spec, where one answer told
// of several things.
func explain(err error) error {
	answer, ok := errors.AsType[*api.Error](err)
	if !ok || len(answer.Errors) < 2 {
		return err
	}
	lines := []string{err.Error()}
	for _, e := range answer.Errors {
		lines = append(lines, fmt.Sprintf("  %s: %s", e.Path, e.Message))
	}
	return fmt.Errorf("%s%w", strings.Join(lines, "\n"), silent{err})
}

// silent keeps an error's identity behind a text that has told it.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// verbs name changes as a plan does, before they are done.
var verbs = map[string]string{
	"created": "create", "updated": "update", "tuned": "tune", "deleted": "delete", "scaled": "scale", "restarted": "restart",
	"rolled_back": "roll back", "cordoned": "cordon", "uncordoned": "uncordon", "draining": "drain", "default_set": "set default",
}

// changes prints what a write does, one thing a line, with the fields that
// differ below.
func (a *app) changes(changes []api.Change) {
	for _, c := range changes {
		verb := verbs[c.Kind]
		if verb == "" {
			verb = c.Kind
		}
		subject := string(c.Server)
		if subject == "" {
			subject = string(c.Node)
		}
		line := fmt.Sprintf("%-9s %s", verb, subject)
		switch c.Kind {
		case "created", "updated", "rolled_back", "restarted":
			line += fmt.Sprintf("  (revision %d)", c.Revision)
		case "tuned":
			line += "  (in place)"
		}
		fmt.Fprintln(a.Out, strings.TrimRight(progress.Printable(line), " "))
		for _, f := range c.Fields {
			fmt.Fprintf(a.Out, "%11s %s\n", "", difference(f))
		}
	}
}

func difference(f api.Difference) string {
	return progress.Printable(fmt.Sprintf("%s: %s -> %s", f.Field, side(f.From), side(f.To)))
}

// side is a value, on one line, or nothing.
func side(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) == 0 || string(raw) == "null" || json.Compact(&b, raw) != nil {
		return "(none)"
	}
	const widest = 200
	if r := []rune(b.String()); len(r) > widest {
		return string(r[:widest]) + "..."
	}
	return b.String()
}

// plan prints what would start and stop, and which replicas no node has room
// for.
func (a *app) plan(actions []api.PlannedAction) error {
	homeless := func(p api.PlannedAction) bool { return p.Action == api.PlanStart && p.Node == "" }
	placed := slices.DeleteFunc(slices.Clone(actions), homeless)
	if len(placed) == 0 {
		if _, err := fmt.Fprintln(a.Out, "nothing would start or stop"); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(a.Out)
		t := newTable(a.Out, "WOULD", "SERVER", "REVISION", "REPLICA", "NODE", "REASON")
		for _, p := range placed {
			t.row(p.Action, p.Server, p.Revision, p.Replica, p.Node, p.Reason)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	unplaced := slices.DeleteFunc(slices.Clone(actions), func(p api.PlannedAction) bool { return !homeless(p) })
	if len(unplaced) == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	for len(unplaced) > 0 {
		first, n := unplaced[0], 1
		for n < len(unplaced) && unplaced[n] == first {
			n++
		}
		what := "1 replica"
		if n > 1 {
			what = fmt.Sprintf("%d replicas", n)
		}
		line := fmt.Sprintf("cannot be placed: %s of %s: %s", what, first.Server, first.Reason)
		if _, err := fmt.Fprintln(a.Out, progress.Printable(line)); err != nil {
			return err
		}
		unplaced = unplaced[n:]
	}
	return nil
}

// outcome prints the answer of a write other than apply: what it changed, or
// would change.
func (a *app) outcome(answer any, changes []api.Change, plan api.Effect) error {
	if a.output == formatJSON {
		if plan.DryRun {
			return a.json(api.DryRun{DryRun: true, Changes: orEmpty(changes), Plan: orEmpty(plan.Plan)})
		}
		return a.json(answer)
	}
	a.changes(changes)
	if len(changes) == 0 {
		fmt.Fprintln(a.Out, "nothing to change")
	}
	if plan.DryRun {
		return a.plan(plan.Plan)
	}
	return nil
}

func orEmpty[T any](list []T) []T { return append([]T{}, list...) }

// reading is a context for questions that are answered from memory.
func reading(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patience)
}
