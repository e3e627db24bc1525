package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

// goal is what a wait for a server is for.
type goal struct {
	server   fleet.ServerName
	revision fleet.Revision // to be rolled out; 0: whatever it is
}

// goalOf returns the goal of a wait: the present revision, or if the user means that
// one, the one that was rolled back last.
func goalOf(s *api.Server, failed bool) goal {
	if failed && s.Failed != nil {
		return goal{s.Name, s.Failed.Revision}
	}
	return goal{s.Name, s.Revision}
}

// untilReady waits until the servers are settled. It gives up when each of the others
// has been rolled back, or is held, or paused, or has been deleted.
func (a *app) untilReady(ctx context.Context, client *api.Client, timeout time.Duration, goals ...goal) error {
	return a.waitUntil(ctx, timeout, func(ctx context.Context) (p polled, err error) {
		servers, err := client.Servers(ctx)
		if err != nil {
			return p, err
		}
		replicas, err := replicasFor(ctx, client, servers, goals)
		if err != nil {
			return p, err
		}
		for _, g := range goals {
			i := slices.IndexFunc(servers, func(s api.Server) bool { return s.Name == g.server })
			if i < 0 || !deployed(&servers[i]) {
				gone := progress.Row{Name: string(g.server), Key: "gone", Text: "somebody has deleted it"}
				p.all, p.stuck = append(p.all, gone), append(p.stuck, gone)
				continue
			}
			s := &servers[i]
			r := serverRow(s, replicas, time.Now())
			p.all = append(p.all, r)
			switch why := g.failure(s); {
			case why != "":
				p.stuck = append(p.stuck, progress.Row{Name: r.Name, Text: why})
			case !settled(s):
				p.left = append(p.left, r)
			}
		}
		return p, nil
	})
}

// replicasFor returns all replicas if a server is not settled. Otherwise nothing is to
// be said about them.
func replicasFor(ctx context.Context, client *api.Client, servers []api.Server, goals []goal) ([]api.Replica, error) {
	waits := func(g goal) bool {
		return slices.ContainsFunc(servers, func(s api.Server) bool { return s.Name == g.server && !settled(&s) })
	}
	if !slices.ContainsFunc(goals, waits) {
		return nil, nil
	}
	return client.Replicas(ctx)
}

// failure says why a server will not come to the goal by itself. It returns "" while
// it may.
func (g goal) failure(s *api.Server) string {
	resume := "mcpfleet rollout resume " + string(s.Name)
	switch r := s.Rollout; {
	case g.revision != 0 && s.Failed != nil && s.Failed.Revision == g.revision:
		return fmt.Sprintf("revision %d was rolled back to revision %d: %s", g.revision, s.Revision, s.Failed.Reason)
	case g.revision != 0 && s.Revision != g.revision:
		return fmt.Sprintf("somebody has changed it meanwhile: revision %d is wanted now, not %d", s.Revision, g.revision)
	case r != nil && r.Held != "":
		return fmt.Sprintf("the rollout of revision %d is held: %s; %s lets it go on, and mcpfleet rollout undo %s ends it", r.To, r.Held, resume, s.Name)
	case r != nil && r.Paused:
		return fmt.Sprintf("the rollout of revision %d is paused; %s lets it go on", r.To, resume)
	}
	return ""
}

// settled reports whether a server is as desired. An idle server may have no
// replicas. A rollout of a stopped server goes on when it is started again. The rollout
// of a first revision replaces nothing, so its end is not waited for: it comes min_ready
// later, or after the first call of an idle server.
func settled(s *api.Server) bool {
	replacing := s.Rollout != nil && s.Rollout.From != 0
	switch s.State {
	case fleet.StateStopped:
		return s.Ready == 0
	case fleet.StateIdle:
		return s.Ready == 0 && !replacing
	case fleet.StateReady:
		return (s.Ready == s.Desired || s.Sessions != nil) && !replacing
	}
	return false
}

// serverRow shows how far a server is.
func serverRow(s *api.Server, replicas []api.Replica, now time.Time) progress.Row {
	t := countNew(s, replicas)
	parts := append([]string{fmt.Sprintf("%s, %d/%d ready, revision %s", s.State, s.Ready, s.Desired, format.Revision(s))}, t.parts(s)...)
	if stage := rolloutStage(s); stage != "" && stage != stageRolling {
		parts = append(parts, stage)
	}
	r := progress.Row{Name: string(s.Name), Text: strings.Join(parts, ", "), Done: s.Ready, Total: s.Desired}
	if replaces(s) {
		r.Done = t.ready
	}
	reason := s.Reason
	switch {
	case s.State == fleet.StateReady && s.Rollout == nil:
		reason = ""
	case s.State == fleet.StateIdle, s.State == fleet.StateUnavailable: // not only on a terminal
		if reason != "" {
			r.Text += ": " + progress.OneLine(reason)
		}
		reason = ""
	}
	r.Key = r.Text
	if s.State == fleet.StateUnavailable {
		r.Key = parts[0] // its reason may change often
	}
	switch left := t.settling(s, now); {
	case t.pull != "":
		r.Detail = t.pull
	case left > 0:
		r.Detail = fmt.Sprintf("an old replica may go in %s", left)
	default:
		r.Detail = reason
	}
	return r
}

// replaces reports whether a rollout to another revision is under way, so that old and
// new replicas can be told apart.
func replaces(s *api.Server) bool {
	return s.Rollout != nil && s.Rollout.From != 0 && s.Rollout.From != s.Rollout.To
}

// newCount counts the replicas of a server's present revision.
type newCount struct {
	ready, starting, pulling int
	pull                     string    // what one that is pulling says
	lastReady                time.Time // when the last one became ready
}

func countNew(s *api.Server, replicas []api.Replica) (t newCount) {
	for _, r := range replicas {
		if r.Server != s.Name || r.Revision != s.Revision || r.Spare {
			continue
		}
		switch r.Phase {
		case fleet.PhaseReady.String():
			t.ready++
			if r.ReadyAt != nil && r.ReadyAt.After(t.lastReady) {
				t.lastReady = *r.ReadyAt
			}
		case fleet.PhasePulling.String():
			t.pulling++
			t.pull = r.Reason
		case fleet.PhasePending.String(), fleet.PhaseStarting.String():
			t.starting++
		}
	}
	return t
}

// parts says what is going on, in words.
func (t *newCount) parts(s *api.Server) (parts []string) {
	if replaces(s) {
		parts = append(parts, fmt.Sprintf("%d new ready", t.ready))
	}
	if t.pulling > 0 {
		parts = append(parts, fmt.Sprintf("%d pulling", t.pulling))
	}
	if t.starting > 0 {
		parts = append(parts, fmt.Sprintf("%d starting", t.starting))
	}
	if r := s.Rollout; r != nil && r.Share != nil {
		parts = append(parts, fmt.Sprintf("canary step %d of %d: %g%% of the calls", r.Step+1, r.Steps, *r.Share))
	}
	return parts
}

// The stages of a rollout.
const (
	stageRolling  = "rolling"
	stageChecking = "checking" // the first new replica gets no calls yet, but those of verify
	stageHeld     = "held"
	stagePaused   = "paused"
	stageStopped  = "waits until the server is started"
)

// rolloutStage returns the stage of a rollout, or "" if none is under way.
func rolloutStage(s *api.Server) string {
	update := updateOf(s)
	switch r := s.Rollout; {
	case r == nil:
		return ""
	case r.Held != "":
		return stageHeld
	case r.Paused:
		return stagePaused
	case s.State == fleet.StateStopped:
		return stageStopped
	case replaces(s) && s.Stable != 0 && r.To > s.Stable && !r.Checked && (len(update.Verify) > 0 || update.OnBreakingTools == fleet.BreakingHold):
		return stageChecking
	}
	return stageRolling
}

// updateOf returns how a server is updated, as far as the spec says so.
func updateOf(s *api.Server) (update fleetfile.UpdateView) {
	spec := struct {
		Update *fleetfile.UpdateView `json:"update"`
	}{&update}
	_ = json.Unmarshal(s.Spec, &spec) // an unknown form says nothing
	return update
}

// settling returns how long the newest replica must still be ready before an old one
// goes. It is 0 while none goes: the rollout waits, or is a canary. The clocks of this
// machine and of the node may differ, so it is an estimate.
func (t *newCount) settling(s *api.Server, now time.Time) time.Duration {
	if !replaces(s) || s.Rollout.Share != nil || rolloutStage(s) != stageRolling || t.lastReady.IsZero() {
		return 0
	}
	least, err := time.ParseDuration(updateOf(s).MinReady)
	if err != nil {
		least = fleet.DefaultMinReady
	}
	left := least - max(0, now.Sub(t.lastReady))
	return max(0, left).Round(time.Second)
}
