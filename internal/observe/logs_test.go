package observe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// logWorker is a Worker that has logs only.
type logWorker struct{ Worker }

func (logWorker) Logs(_ context.Context, id fleet.ReplicaID, _ int, _ bool, on func([]fleet.LogLine) error) error {
	return on([]fleet.LogLine{{Text: string(id)}, {Text: "runs"}})
}

func TestLogs(t *testing.T) {
	o := &Observer{snap: &Snapshot{
		Nodes: map[fleet.NodeID]Node{"n1": {Worker: logWorker{}}, "n2": {}},
		Replicas: map[fleet.ReplicaID]*fleet.Replica{
			"here": {ID: "here", Node: "n1"}, "away": {ID: "away", Node: "n2"},
		},
		Ended: map[fleet.ServerName][]*fleet.Replica{"s": {{ID: "ended", Log: []string{"1", "2", "3"}}}},
	}}
	for _, tt := range []struct {
		id   fleet.ReplicaID
		tail int
		want string
		err  error
	}{
		{"here", 0, "here runs", nil},
		{"away", 0, "", fleet.ErrReplicaLost},
		{"ended", 0, "1 2 3", nil},
		{"ended", 2, "2 3", nil},
		{"ended", 9, "1 2 3", nil},
		{"unknown", 0, "", fleet.ErrUnknownReplica},
	} {
		var lines []string
		err := o.Logs(t.Context(), tt.id, tt.tail, false, func(l fleet.LogLine) { lines = append(lines, l.Text) })
		if got := strings.Join(lines, " "); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s, tail %d: got %q, %v", tt.id, tt.tail, got, err)
		}
	}
}
