package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/calls"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) rolloutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Show, pause, resume and undo the rollout of a revision",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.rolloutStatusCommand(),
		a.rolloutVerbCommand("pause SERVER", "Replace no further replica of the old revision", api.RolloutPause,
			"Replace no further replica of the old revision until the rollout is resumed. Its progress deadline does not pass meanwhile."),
		a.rolloutVerbCommand("resume SERVER", "Let a paused or held rollout go on", api.RolloutResume,
			"Let a paused or held rollout go on. A revision that is held counts as checked then; a canary with a manual gate takes its next step."),
		a.undoCommand("undo SERVER"),
	)
	return cmd
}

func (a *app) rolloutVerbCommand(use, short, action, long string) *cobra.Command {
	var w waitFlags
	var o api.WriteOptions
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Long:              long,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
			return client.SetRollout(ctx, fleet.ServerName(args[0]), action, o)
		}),
	}
	dryRunFlag(cmd, &o)
	if action == api.RolloutResume {
		w.flags(cmd, "the revision is rolled out and ready")
	}
	return cmd
}

func (a *app) rollbackCommand() *cobra.Command { return a.undoCommand("rollback SERVER") }

// undoCommand returns a server to an earlier revision.
func (a *app) undoCommand(use string) *cobra.Command {
	var w waitFlags
	var to uint64
	o := api.WriteOptions{IdempotencyKey: rand.Text()}
	cmd := &cobra.Command{
		Use:   use,
		Short: "Return a server to an earlier revision; replica count and limits stay",
		Long: `Return a server to an earlier revision, under its old number. Replica count and limits stay.
A rollout that is under way ends, and its replicas are replaced.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
			return client.Rollback(ctx, fleet.ServerName(args[0]), fleet.Revision(to), o)
		}),
	}
	cmd.Flags().Uint64Var(&to, "to", 0, "number of the revision, as mcpfleet revisions shows it; 0 for the last one that was rolled out")
	dryRunFlag(cmd, &o)
	w.flags(cmd, "the revision is rolled out and ready")
	return cmd
}

func (a *app) rolloutStatusCommand() *cobra.Command {
	var watch bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status SERVER",
		Short: "Show the rollout that is under way, or how the last one ended",
		Long: `Show the rollout that is under way, or how the last one ended. With --watch, follow it until it ends.
Then the exit code is 0 if the revision is rolled out, and 1 if it was rolled back, or its rollout is held or paused.
It is 3 if the rollout had not ended when the watch did.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			name := fleet.ServerName(args[0])
			if watch {
				if err := a.watchRollout(ctx, client, name, timeout); err != nil || a.output != formatJSON {
					return err
				}
			}
			ctx, cancel := withReadTimeout(ctx)
			defer cancel()
			s, err := client.GetServer(ctx, name, api.ReadOptions{})
			if err != nil {
				return err
			}
			replicas, err := client.Replicas(ctx)
			if err != nil {
				return err
			}
			replicas = slices.DeleteFunc(replicas, func(r api.Replica) bool { return r.Server != s.Name })
			if a.output == formatJSON {
				return a.printJSON(rolloutStatus{s, orEmpty(replicas)})
			}
			return a.showRollout(&s, replicas, time.Now())
		}),
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "follow the rollout until it ends")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "how long --watch waits; 0 for as long as it takes")
	return cmd
}

// watchRollout waits until the rollout of a server has ended. It returns an error if the
// revision was rolled back.
func (a *app) watchRollout(ctx context.Context, client *api.Client, name fleet.ServerName, timeout time.Duration) error {
	readCtx, cancel := withReadTimeout(ctx)
	defer cancel()
	s, err := client.GetServer(readCtx, name, api.ReadOptions{})
	if err != nil {
		return err
	}
	ended := s.Failed != nil && (s.Rollout == nil || s.Rollout.From == s.Failed.Revision)
	return a.untilReady(ctx, client, timeout, goalOf(&s, ended))
}

// rolloutStatus is what rollout status prints as JSON.
type rolloutStatus struct {
	Server   api.Server    `json:"server"`
	Replicas []api.Replica `json:"replicas"` // of this server
}

// showRollout prints the rollout of a server, and its replicas by revision.
func (a *app) showRollout(s *api.Server, replicas []api.Replica, now time.Time) error {
	say := func(name, text string) {
		if text = strings.Join(strings.Fields(progress.Printable(text)), " "); text != "" {
			fmt.Fprintf(a.Out, "%-9s %s\n", name, text)
		}
	}
	say("SERVER", fmt.Sprintf("%s: %s, %s ready", s.Name, s.State, format.Ready(s)))
	r := s.Rollout
	if r == nil {
		say("ROLLOUT", fmt.Sprintf("none is under way; revision %d is wanted", s.Revision))
	} else {
		say("ROLLOUT", rolloutText(s))
		t := countNew(s, replicas)
		stage := rolloutStage(s)
		say("STATE", strings.Join(append([]string{stage}, t.parts(s)...), ", "))
		say("HELD", r.Held)
		started := format.Age(&r.StartedAt, now) + " ago"
		if s.Stable != 0 && s.Stable != r.To && r.Deadline.After(now) && !slices.Contains([]string{stageHeld, stagePaused, stageStopped}, stage) {
			started += "; without progress it is rolled back in " + r.Deadline.Sub(now).Round(time.Second).String() + " at the earliest"
		}
		say("STARTED", started)
	}
	f := s.Failed
	if f != nil {
		say("FAILED", fmt.Sprintf("revision %d, %s ago: %s", f.Revision, format.Age(&f.At, now), f.Reason))
	}
	said := f != nil && strings.Contains(s.Reason, f.Reason) || r != nil && r.Held != "" && strings.Contains(s.Reason, r.Held)
	if !said {
		say("REASON", s.Reason)
	}
	return a.revisionTable(replicas)
}

// rolloutText says what is replaced by what.
func rolloutText(s *api.Server) string {
	switch r := s.Rollout; {
	case r.From == 0:
		return fmt.Sprintf("revision %d, the first one", r.To)
	case r.From == r.To:
		return fmt.Sprintf("revision %d, restarted by hand", r.To)
	case s.Failed != nil && s.Failed.Revision == r.From:
		return fmt.Sprintf("revision %d -> %d, rolled back", r.From, r.To)
	default:
		return fmt.Sprintf("revision %d -> %d", r.From, r.To)
	}
}

// revisionTable prints the replicas of each revision, by phase, and their calls.
func (a *app) revisionTable(replicas []api.Replica) error {
	byRevision := make(map[fleet.Revision][]api.Replica)
	for _, r := range replicas {
		byRevision[r.Revision] = append(byRevision[r.Revision], r)
	}
	if len(byRevision) == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	t := newTable(a.Out, "REVISION", "REPLICAS", "CALLS", "FAILED", "P50", "P95")
	for _, revision := range slices.SortedFunc(maps.Keys(byRevision), func(x, y fleet.Revision) int { return cmp.Compare(y, x) }) {
		var sum calls.Sum
		for _, r := range byRevision[revision] {
			sum.Add(&api.Replica{}, &r)
		}
		t.row(revision, phasesText(byRevision[revision]), sum.Calls, failedText(sum), quantileText(sum, 0.5), quantileText(sum, 0.95))
	}
	return t.flush()
}

// failedText returns how many calls failed, with their share.
func failedText(s calls.Sum) string {
	if s.Failed == 0 || s.Calls == 0 {
		return strconv.FormatUint(s.Failed, 10)
	}
	return fmt.Sprintf("%d (%.1f%%)", s.Failed, 100*float64(s.Failed)/float64(s.Calls))
}

func quantileText(s calls.Sum, q float64) string {
	d, ok := s.Quantile(q)
	if !ok {
		return ""
	}
	return format.Latency(d)
}

// phasesText counts replicas by phase.
func phasesText(replicas []api.Replica) string {
	counts := make(map[string]int)
	for _, r := range replicas {
		one := format.Phase(&r)
		if r.Session != "" {
			one = r.Phase + ", of a session"
		}
		counts[one]++
	}
	parts := make([]string, 0, len(counts))
	for _, phase := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[phase], phase))
	}
	return strings.Join(parts, "; ")
}
