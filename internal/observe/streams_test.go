package observe

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// streamWorker is a Worker that only notes what it is asked for.
type streamWorker struct {
	Worker
	mu    sync.Mutex
	asked []string
}

func (w *streamWorker) note(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, what)
	return nil
}

func (w *streamWorker) ReadStream(_ context.Context, r fleet.ReadRequest, _ func([]fleet.Message) error) error {
	return w.note("read " + string(r.Stream))
}
func (w *streamWorker) Answer(_ context.Context, a fleet.Answer) error {
	return w.note("answer " + string(a.Stream))
}
func (w *streamWorker) CancelCall(_ context.Context, s fleet.StreamID, owner, reason string) error {
	return w.note("cancel " + string(s) + " of " + owner + ": " + reason)
}
func (w *streamWorker) SendToSession(_ context.Context, s fleet.SessionID, r fleet.ReplicaID, message []byte) error {
	return w.note("to " + string(s) + " at " + string(r) + string(message))
}

func TestStreamsAreFoundByTheirWorker(t *testing.T) {
	one, two := new(streamWorker), new(streamWorker)
	member := func(life fleet.LifeID) fleet.Member { return fleet.Member{Node: "n", Life: life} }
	o := New(Config{Log: slog.New(slog.DiscardHandler)})
	o.dirty = false
	o.snap = &Snapshot{
		Nodes: map[fleet.NodeID]Node{
			"n1": {Member: member("l1"), Worker: one}, "n2": {Member: member("l2"), Worker: two},
			"away": {Member: member("l3")}, "lost": {Member: member("l4"), Lost: true},
		},
		Replicas: map[fleet.ReplicaID]*fleet.Replica{"r1": {Node: "n1"}, "r3": {Node: "away"}},
	}
	ctx := t.Context()
	for life, want := range map[fleet.LifeID]error{"l1": nil, "l2": nil, "l3": fleet.ErrWorkerLost, "l4": fleet.ErrUnknownStream, "l0": fleet.ErrUnknownStream} {
		for what, err := range map[string]error{
			"ReadStream": o.ReadStream(ctx, life, fleet.ReadRequest{Stream: "s"}, nil),
			"Answer":     o.Answer(ctx, life, fleet.Answer{Stream: "s"}),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%s at %s: got %v, want %v", what, life, err, want)
			}
		}
	}
	for replica, want := range map[fleet.ReplicaID]error{"r1": nil, "r3": fleet.ErrWorkerLost, "r0": fleet.ErrUnknownReplica} {
		if err := o.SendToSession(ctx, "u", replica, []byte("{}")); !errors.Is(err, want) {
			t.Errorf("SendToSession to %s: got %v, want %v", replica, err, want)
		}
	}
	o.CancelCalls(ctx, "s", "o", "enough")
	for name, w := range map[string]*streamWorker{"one": one, "two": two} {
		slices.Sort(w.asked)
		want := []string{"answer s", "cancel s of o: enough", "read s"}
		if name == "one" {
			want = append(want, "to u at r1{}")
		}
		if !slices.Equal(w.asked, want) {
			t.Errorf("worker %s was asked for %q, want %q", name, w.asked, want)
		}
	}
}
