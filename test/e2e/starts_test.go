//go:build linux

package e2e

import (
	"fmt"
	"testing"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// A worker starts as many replicas at once as its flag says. The others say what they
// wait for.
func TestMaxStarts(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	c.Fleet(`servers: { mute: {"command": ["sleep", "600"], "replicas": 4, "env": {"TOKEN": %q}} }`, c.token)
	c.StartController()
	c.StartWorker("w1", "--max-starts", "2")
	harness.Eventually(t, patience, func() error {
		starting, waiting := 0, 0
		for _, r := range c.ReplicasOf("mute", "") {
			switch {
			case r.Phase == "STARTING":
				starting++
			case r.Phase == "PENDING" && r.Reason == "waits for its turn: 2 replicas are starting":
				waiting++
			}
		}
		if starting != 2 || waiting != 2 {
			return fmt.Errorf("%d replicas start and %d wait for their turn, want 2 and 2", starting, waiting)
		}
		return nil
	})
}
