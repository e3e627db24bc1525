package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/desired"
)

// The exit codes, beside 0.
const (
	exitError   = 1
	exitUsage   = 2
	exitUnready = 3
	exitChanged = 4
	exitUnknown = 5
)

// exitCodes describes the exit codes for the help.
const exitCodes = `Exit codes:
  0  success; with --wait, it has also become ready
  1  an error; nothing was changed unless the message says what. With --wait also: the change was
     made, and the revision was rolled back, its rollout is held or paused, or somebody has changed
     or deleted the server meanwhile
  2  a mistake on the command line
  3  the change was made, but was not ready while --wait waited
  4  nothing was changed, because somebody else made a change meanwhile
  5  unknown whether the change was made: the answer was lost`

// unknownError is a write with an unknown outcome.
type unknownError struct{ err error }

func (e *unknownError) Error() string {
	return "it is unknown whether the change was made; check before you try again: " + e.err.Error()
}
func (e *unknownError) Unwrap() error { return e.err }

// writeError wraps the error of a write in an unknownError, unless the error
// proves that nothing was done: no controller was reached, or one refused.
func writeError(err error) error {
	if err == nil || unsent(err) {
		return err
	}
	if answer, ok := errors.AsType[*api.Error](err); ok && answer.Code != api.CodeOutcomeUnknown && (answer.Code != "" || answer.Status < 500) {
		return err
	}
	return &unknownError{err}
}

// isCode reports whether a controller answered with this code.
func isCode(err error, code string) bool {
	answer, ok := errors.AsType[*api.Error](err)
	return ok && answer.Code == code
}

// explain adds the list of problems with a file or a spec, if there are several.
func explain(err error) error {
	answer, ok := errors.AsType[*api.Error](err)
	if !ok || len(answer.Errors) < 2 {
		return err
	}
	lines := []string{err.Error()}
	for _, e := range answer.Errors {
		lines = append(lines, fmt.Sprintf("  %s: %s", e.Path, e.Message))
	}
	return fmt.Errorf("%s%w", strings.Join(lines, "\n"), hiddenText{err})
}

// hiddenText wraps an error whose text is already part of the message.
type hiddenText struct{ error }

func (hiddenText) Error() string   { return "" }
func (s hiddenText) Unwrap() error { return s.error }

// printChanges prints one line for each change of a write, followed by the fields
// that differ.
func (a *app) printChanges(changes []api.Change) {
	for _, c := range changes {
		kind := desired.ChangeKind(c.Kind)
		subject := string(c.Server)
		if subject == "" {
			subject = cmp.Or(string(c.Node), string(c.Gateway))
		}
		line := fmt.Sprintf("%-9s %s", kind.Verb(), subject)
		switch kind {
		case desired.Created, desired.Updated, desired.RolledBack, desired.Restarted, desired.RolloutPaused, desired.RolloutResumed:
			line += fmt.Sprintf("  (revision %d)", c.Revision)
		case desired.Tuned:
			line += "  (in place)"
		}
		fmt.Fprintln(a.Out, strings.TrimRight(progress.Printable(line), " "))
		for _, f := range c.Fields {
			fmt.Fprintf(a.Out, "%11s %s\n", "", difference(f))
		}
	}
}

func difference(f api.Difference) string {
	return progress.Printable(fmt.Sprintf("%s: %s -> %s", f.Field, valueText(f.From), valueText(f.To)))
}

// valueText returns a value on one line, or "(none)".
func valueText(raw json.RawMessage) string {
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

// effects returns the warnings that are about what a write does. Those about the
// document have a line, and its reader has printed them already.
func effects(warnings []api.FieldError) []api.FieldError {
	return slices.DeleteFunc(slices.Clone(warnings), func(w api.FieldError) bool { return w.Line > 0 })
}

// printEffects prints warnings about what a write does. A server that keeps its
// revision in spite of another spec is marked.
func (a *app) printEffects(changes []api.Change, warnings []api.FieldError) {
	for _, w := range warnings {
		server, mark := strings.TrimPrefix(w.Path, "servers."), "unchanged"
		if slices.ContainsFunc(changes, func(c api.Change) bool {
			return string(c.Server) == server && c.Kind != string(desired.Tuned)
		}) {
			mark = "warning"
		}
		fmt.Fprintln(a.Out, progress.Printable(fmt.Sprintf("%-9s %s: %s", mark, server, w.Message)))
	}
}

// printPlan prints the replicas that would start and stop, and those that no
// node has room for.
func (a *app) printPlan(actions []api.PlannedAction) error {
	isUnplaced := func(p api.PlannedAction) bool { return p.Action == api.PlanStart && p.Node == "" }
	placed := slices.DeleteFunc(slices.Clone(actions), isUnplaced)
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
	unplaced := slices.DeleteFunc(slices.Clone(actions), func(p api.PlannedAction) bool { return !isUnplaced(p) })
	if len(unplaced) == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	for len(unplaced) > 0 {
		first, n := unplaced[0], 1
		for n < len(unplaced) && unplaced[n] == first {
			n++
		}
		count := "1 replica"
		if n > 1 {
			count = fmt.Sprintf("%d replicas", n)
		}
		line := fmt.Sprintf("cannot be placed: %s of %s: %s", count, first.Server, first.Reason)
		if _, err := fmt.Fprintln(a.Out, progress.Printable(line)); err != nil {
			return err
		}
		unplaced = unplaced[n:]
	}
	return nil
}

// printOutcome prints the answer of a write other than apply: the changes that
// it made or would make.
func (a *app) printOutcome(answer any, changes []api.Change, plan api.Effect, warnings ...api.FieldError) error {
	switch {
	case plan.DryRun:
		return a.printDryRun(changes, plan.Plan, effects(warnings))
	case a.output == formatJSON:
		return a.printJSON(answer)
	}
	a.printChanges(changes)
	if len(changes) == 0 {
		fmt.Fprintln(a.Out, "nothing to change")
	}
	return nil
}

// printDryRun prints what a write would change, and the replicas that would start and
// stop. The warnings say what it would not do.
func (a *app) printDryRun(changes []api.Change, plan []api.PlannedAction, warnings []api.FieldError) error {
	if a.output == formatJSON {
		return a.printJSON(api.DryRun{DryRun: true, Changes: orEmpty(changes), Plan: orEmpty(plan), Warnings: warnings})
	}
	a.printChanges(changes)
	a.printEffects(changes, warnings)
	if len(changes) == 0 && len(warnings) == 0 {
		fmt.Fprintln(a.Out, "nothing to change")
	}
	return a.printPlan(plan)
}

func orEmpty[T any](list []T) []T { return append([]T{}, list...) }

// withReadTimeout returns a context for requests that are answered from memory.
func withReadTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, readTimeout)
}
