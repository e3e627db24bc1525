//go:build linux

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Once a second, one client sends a call that ends the replica that gets it. Fewer
// than one in a hundred calls of its neighbours fail, and all replicas are back
// soon.
func TestPoisonClientAndItsNeighbours(t *testing.T) {
	t.Parallel()
	during := 8
	if testing.Short() {
		during = 4
	}
	for _, tc := range []struct {
		name, tool string
		args       func(i int) string
	}{
		{"the same call", "poison", func(int) string { return `{}` }},
		{"different calls", "poison", func(i int) string { return fmt.Sprintf(`{"text":"%d"}`, i) }},
		{"not safe to repeat", "crash", func(int) string { return `{}` }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := NewCluster(t, "process")
			c.Fleet(`servers: { demo: { command: [%q], replicas: 6, env: { TOKEN: %s } } }`, program("testserver"), c.token)
			c.Start(3)
			poison(t, c, during, tc.tool, tc.args)
		})
	}
}

// The same with fewer replicas in containers, which start more slowly.
func TestPoisonClientAmongContainers(t *testing.T) {
	needPodman(t)
	t.Parallel()
	c := NewCluster(t, "podman")
	c.Fleet(`servers: { demo: { image: docker.io/library/debian:bookworm-slim, entrypoint: [%q], mounts: ["%s:%s:ro"], network: none, pull_policy: never, replicas: 4, env: { TOKEN: %s } } }`,
		program("testserver"), filepath.Dir(program("testserver")), filepath.Dir(program("testserver")), c.token)
	c.Start(2)
	poison(t, c, 8, "poison", func(i int) string { return fmt.Sprintf(`{"text":"%d"}`, i) })
}

// poison sends a call that ends its replica once a second, this many times, and
// checks the calls of its neighbours.
func poison(t *testing.T, c *Cluster, during int, tool string, args func(i int) string) {
	t.Helper()
	workers := len(c.Workers)
	neighbours := call(t, c, 16, "demo", "echo")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := range during {
		if _, err := c.Text("demo", tool, args(i)); err == nil || !strings.Contains(err.Error(), "lost") {
			t.Errorf("poison: %v, want that its replica was lost", err)
		}
		<-tick.C
	}
	begin := time.Now()
	c.AwaitReady(workers)
	back := time.Since(begin)
	neighbours.Stop()
	failed, r := 0, neighbours.Results()
	for _, n := range r.Refused {
		failed += n
	}
	restarts := c.Server("demo").Restarts
	t.Logf("%d poison calls: %d restarts; of %d calls of neighbours %d failed: %v; the slowest took %s; all replicas were back %s after the last",
		during, restarts, r.Calls, failed, r.Refused, r.Slowest, back.Round(time.Millisecond))
	if r.Calls < 500 || failed*100 >= r.Calls {
		_, err := neighbours.result()
		t.Errorf("%d of %d calls of neighbours failed: %v", failed, r.Calls, err)
	}
	if restarts > 2*during {
		t.Errorf("%d restarts for %d calls, want two for each at most", restarts, during)
	}
}
