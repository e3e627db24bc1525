package observetest

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// OpenSession implements observe.Sessions. The server's answer names the replica.
func (c *conn) OpenSession(ctx context.Context, o fleet.Order, s fleet.SessionStart) (fleet.SessionOpened, error) {
	version, err := c.order(ctx, func() (uint64, error) { return c.worker.openSession(o, s) })
	return fleet.SessionOpened{Version: version, Result: fmt.Appendf(nil, `{"replica":%q}`, s.Replica)}, err
}

// CloseSession implements observe.Sessions.
func (c *conn) CloseSession(ctx context.Context, id fleet.ReplicaID, session fleet.SessionID, _ string) error {
	_, err := c.order(ctx, func() (uint64, error) { return 0, c.worker.closeSession(id, session) })
	return err
}

// EndOpened ends the next n replicas that sessions get, before these have them.
func (w *Worker) EndOpened(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.openDeaths = n
}

func (w *Worker) openSession(o fleet.Order, s fleet.SessionStart) (uint64, error) {
	w.mu.Lock()
	if e := w.replicas[s.Replica]; e != nil && e.r.Session == "" && w.openDeaths > 0 {
		w.openDeaths--
		w.mu.Unlock()
		w.crash(s.Replica, 2)
		return 0, fleet.ErrReplicaLost
	}
	defer w.mu.Unlock()
	if w.old {
		return 0, fleet.ErrOldWorker
	}
	if err := w.fence(o); err != nil {
		return 0, err
	}
	e := w.replicas[s.Replica]
	switch {
	case e == nil || e.r.Phase != fleet.PhaseReady || !e.r.Raw || e.r.Session != "" && e.r.Session != s.Session:
		return 0, fleet.ErrNotDelivered
	case e.r.Session == "":
		e.r.Session, e.r.SessionAt, e.r.Spare = s.Session, w.now(), false
		w.changed(e)
	}
	return w.version, nil
}

func (w *Worker) closeSession(id fleet.ReplicaID, session fleet.SessionID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.replicas[id]
	if e == nil || e.r.Session != session || e.r.Phase.Ended() {
		return fleet.ErrUnknownReplica
	}
	if e.r.Phase < fleet.PhaseDraining {
		e.r.Phase = fleet.PhaseDraining
		w.changed(e)
		time.AfterFunc(w.behave(e.r.Server, e.r.Revision).StopAfter, func() { w.end(id, fleet.PhaseStopped, fleet.Exit{Requested: true}) })
	}
	return nil
}
