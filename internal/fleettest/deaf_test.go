package fleettest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// freeze makes one replica read nothing any more, and waits until the call
// that does it, and another one, are inside.
func freeze(t *testing.T, c *Cluster) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		calls.Wait()
	})
	calls.Go(func() { _, _ = c.Call(ctx, "echo", api.CallRequest{ToolName: "freeze", ToolArgs: args(`{}`)}) })
	Eventually(t, func(ctx context.Context) error {
		list, err := c.Replicas(ctx)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.Ongoing > 0 {
				return nil
			}
		}
		return fmt.Errorf("no call is inside")
	})
}

// One replica of three goes deaf. The calls that were sent to it in the next
// second wait; everybody else's are answered, long before the replica is
// judged: its health check takes minutes here.
func TestDeafReplicaIsPassedOver(t *testing.T) {
	c := Start(t, Options{Workers: 3, File: echoFile(3, "    call_timeout: 10s\n    health: {period: 10m, timeout: 1m, failures: 3}\n")})
	c.AwaitReady(3)
	freeze(t, c)
	l := startLoad(t, c, 8)
	// Until the router has noticed calls may get stuck there, one of each caller
	// at most, and some of those that wait while the others are full.
	time.Sleep(3 * time.Second)
	before := l.answered.Load()
	time.Sleep(12 * time.Second)
	l.end()
	answered, failed := l.answered.Load(), l.failed.Load()
	t.Logf("%d answered, %d failed: %v", answered, failed, l.errors)
	if answered-before < 100 || failed > 4 {
		t.Errorf("%d answered after the first seconds, %d failed: %v; want at most the few that were inside", answered-before, failed, l.errors)
	}
}

// With nothing else to go to, a deaf replica is replaced long before the
// deadlines of the calls that wait for it. The period is long enough for some
// twenty calls on a busy machine, too: only then is it known to be responsive.
func TestDeafReplicaIsReplacedSooner(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(1, "    call_timeout: 2m\n    health: {period: 3s, timeout: 500ms, failures: 3}\n")})
	c.AwaitReady(1)
	l := startLoad(t, c, 4)
	defer l.end()
	Eventually(t, func(context.Context) error {
		if n := l.answered.Load(); n < 200 {
			return fmt.Errorf("%d calls answered", n)
		}
		return nil
	})
	freeze(t, c)
	began := time.Now()
	before := l.answered.Load()
	Eventually(t, func(context.Context) error {
		if n := l.answered.Load() - before; n < 100 {
			return fmt.Errorf("%d calls answered after the replica went deaf", n)
		}
		return nil
	})
	t.Logf("calls were answered again after %s", time.Since(began).Round(time.Millisecond))
}
