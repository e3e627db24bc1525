package controller

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/reconcile"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// progress is desired state as the reconciler reads it (as the store has it),
// and writes to it how far it has come.
type progress struct {
	*writes
}

// knownTimeout bounds how long a start waits for its node to be remembered.
const knownTimeout = 5 * time.Second

// SetKnownNodes implements reconcile.KnownNodes.
func (p progress) SetKnownNodes(nodes []fleet.NodeID) error {
	ctx, cancel := context.WithTimeout(context.Background(), knownTimeout)
	defer cancel()
	return p.Store.SetKnownNodes(ctx, nodes)
}

func (p progress) rolledOut(ctx context.Context, server fleet.ServerName, rev fleet.Revision, generation uint64) error {
	_, err := p.Propose(ctx, desired.EndRollout{Name: server, Revision: rev, Generation: generation})
	return err
}

// eventFrom makes one of the reconciler's events everyone's.
func eventFrom(e reconcile.Event) events.Event {
	return events.Event{
		Kind: e.Kind, Server: e.Server, Replica: e.Replica, Node: e.Node, Revision: e.Revision, Message: e.Message,
	}
}

// preview is what the leader would do, as the HTTP front asks for it.
func preview(r *reconcile.Reconciler) func(context.Context, *desired.State) ([]api.PlannedAction, error) {
	return func(ctx context.Context, st *desired.State) ([]api.PlannedAction, error) {
		plan, err := r.Preview(ctx, st.List(), st.Nodes)
		if err != nil {
			return nil, err
		}
		out := make([]api.PlannedAction, 0, len(plan))
		for _, a := range plan {
			one := api.PlannedAction{
				Action: api.PlanStop, Server: a.Server, Replica: a.Replica, Node: a.Node, Revision: a.Revision, Reason: a.Reason,
			}
			if a.Start {
				one.Action = api.PlanStart
			}
			out = append(out, one)
		}
		return out, nil
	}
}

// backup writes a backup of a state.
func backup(version string) func(io.Writer, *desired.State) error {
	return func(w io.Writer, st *desired.State) error {
		if err := store.WriteBackup(w, st, store.BackupMeta{TakenAt: time.Now(), Version: version}); err != nil {
			return fmt.Errorf("back up desired state: %w", err)
		}
		return nil
	}
}
