package observe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// logWorker is a Worker that only has logs.
type logWorker struct {
	Worker
	logs func(id fleet.ReplicaID, on func([]fleet.LogLine) error) error
}

func (w logWorker) Logs(_ context.Context, id fleet.ReplicaID, _ int, _ bool, on func([]fleet.LogLine) error) error {
	return w.logs(id, on)
}

func TestLogs(t *testing.T) {
	broken := errors.New("the stream broke")
	var o *Observer
	worker := logWorker{logs: func(id fleet.ReplicaID, on func([]fleet.LogLine) error) error {
		switch id {
		case "runs", "remembered":
			return on([]fleet.LogLine{{Text: "of"}, {Text: string(id)}})
		case "cut":
			return errors.Join(on([]fleet.LogLine{{Text: "half"}}), broken)
		case "ends":
			o.snap.Ended["s"] = append(o.snap.Ended["s"], &fleet.Replica{ID: id, Node: "n1", Log: []string{"last"}})
		case "broken":
			return broken
		}
		return fleet.ErrUnknownReplica
	}}
	for _, tt := range []struct {
		id    fleet.ReplicaID
		tail  int
		lines string
		err   error
	}{
		{"runs", 0, "found of runs", nil},
		{"cut", 0, "found half", broken},
		{"broken", 0, "found", broken},
		{"unreachable", 0, "", fleet.ErrReplicaLost},
		{"ends", 0, "found last", nil}, // between the snapshot and the question
		{"remembered", 0, "found of remembered", nil},
		{"forgotten", 0, "found 1 2 3", nil},
		{"ended", 0, "found 1 2 3", nil},
		{"ended", 2, "found 2 3", nil},
		{"ended", 9, "found 1 2 3", nil},
		{"unknown", 0, "", fleet.ErrUnknownReplica},
	} {
		o = &Observer{snap: &Snapshot{
			Nodes:    map[fleet.NodeID]Node{"n1": {Worker: worker}, "n2": {}},
			Replicas: map[fleet.ReplicaID]*fleet.Replica{},
			Ended: map[fleet.ServerName][]*fleet.Replica{"s": {
				{ID: "remembered", Node: "n1", Log: []string{"3"}},
				{ID: "forgotten", Node: "n1", Log: []string{"1", "2", "3"}},
				{ID: "ended", Node: "n2", Log: []string{"1", "2", "3"}},
			}},
		}}
		for _, id := range []fleet.ReplicaID{"runs", "cut", "ends", "broken"} {
			o.snap.Replicas[id] = &fleet.Replica{ID: id, Node: "n1"}
		}
		o.snap.Replicas["unreachable"] = &fleet.Replica{ID: "unreachable", Node: "n2"}
		var got []string
		err := o.Logs(t.Context(), tt.id, tt.tail, false, func(lines []fleet.LogLine) error {
			if lines == nil {
				got = append(got, "found")
			}
			for _, l := range lines {
				got = append(got, l.Text)
			}
			return nil
		})
		if lines := strings.Join(got, " "); lines != tt.lines || !errors.Is(err, tt.err) {
			t.Errorf("%s, tail %d: got %q, %v; want %q, %v", tt.id, tt.tail, lines, err, tt.lines, tt.err)
		}
	}
}
