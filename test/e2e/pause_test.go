//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// All programs are paused for longer than a connection may be silent, and the
// controller goes on before the worker. Nothing was lost, so no call fails, and no
// replica is replaced.
func TestPause(t *testing.T) {
	t.Parallel()
	c := NewCluster(t, "process")
	c.Fleet(`servers: { demo: {"command": [%q, "-journal", %q], "replicas": 2, "env": {"TOKEN": %q}} }`,
		program("testserver"), filepath.Join(c.dir, "journal"), c.token)
	c.Start(1)
	was := c.replicaIDs()
	all := callsUnderWay(t, c.Client)
	paused := []*harness.Process{c.Controller, c.Workers["w1"]}
	for _, p := range paused {
		p.Signal(syscall.SIGSTOP)
		t.Cleanup(func() { p.Signal(syscall.SIGCONT) })
	}
	time.Sleep(8 * time.Second)
	paused[0].Signal(syscall.SIGCONT)
	time.Sleep(time.Second)
	paused[1].Signal(syscall.SIGCONT)
	all.Wait()
	c.AwaitReady(1)
	if is := c.replicaIDs(); !slices.Equal(is, was) {
		t.Errorf("the replicas are %v, were %v", is, was)
	}
}

// replicaIDs returns the ids of the server demo's replicas, sorted.
func (c *Cluster) replicaIDs() []string {
	var ids []string
	for _, r := range c.ReplicasOf("demo", "") {
		ids = append(ids, string(r.ID))
	}
	slices.Sort(ids)
	return ids
}

// callsUnderWay makes calls of two seconds through one controller, which must not be
// repeated, and returns when most of them are at a replica. If one fails, so does the
// test.
func callsUnderWay(t *testing.T, client *api.Client) *sync.WaitGroup {
	t.Helper()
	const calls = 6
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			args := fmt.Appendf(nil, `{"id":"under-way-%d","ms":2000}`, i)
			_, err := client.Call(t.Context(), "demo", api.CallRequest{ToolName: "count", ToolArgs: args})
			if err != nil {
				t.Errorf("a call that was under way: %v", err)
			}
		})
	}
	harness.Eventually(t, patience, func() error {
		got, err := client.GetServer(t.Context(), "demo", readNow)
		if err == nil && got.Ongoing < calls {
			err = fmt.Errorf("%d calls are at the replicas", got.Ongoing)
		}
		return err
	})
	return &all
}
