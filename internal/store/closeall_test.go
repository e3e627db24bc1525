package store

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// Raft's pipeline can lock up forever and must not be used.
func TestNoPipeline(t *testing.T) {
	_, s := one(t)
	_, err := s.net.AppendEntriesPipeline(raft.ServerID("other"), raft.ServerAddress("other"))
	if !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Errorf("a pipeline: %v, want none", err)
	}
}

// All controllers of a cluster may stop at once. The leader then hands over to one
// that is stopping too.
func TestCloseAllAtOnce(t *testing.T) {
	for range 4 {
		c := three(t)
		c.must(put("a", "x"))
		stores := c.stores()
		done := make(chan struct{}, len(stores))
		for _, s := range stores {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				c.closeWithin(ctx, s)
				done <- struct{}{}
			}()
		}
		for range stores {
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				buf := make([]byte, 1<<20)
				t.Fatalf("a store does not close:\n%s", buf[:runtime.Stack(buf, true)])
			}
		}
	}
}
