//go:build linux

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Ten servers with one rare caller each stop while they are idle, and start when they
// are called. The pauses of the callers are as long as an idle server lives, more or
// less. So calls come before, while and after a server stops. None fails, and those
// that are not safe to repeat are executed once.
func TestRareCallsFailAtNoStop(t *testing.T) {
	const servers = 10
	p := NewPlane(t, 1)
	spec := p.demoSpec("", `"autoscaling": {"min_replicas": 0, "downscale_delay_s": 0.2, "look_back_period_s": 0.2}`)
	var file strings.Builder
	for i := range servers {
		fmt.Fprintf(&file, "  s%d: %s\n", i, spec)
	}
	p.Fleet("servers:\n%s", file.String())
	p.Start(2)
	ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	k := &traffic{p: p, end: end, counted: map[string]bool{}}
	for i := range servers {
		k.calls.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				k.call(fmt.Sprintf("s%d", i), echoAndCount(1000*i+n))
				select {
				case <-time.After(time.Duration(rand.Int64N(int64(2500 * time.Millisecond)))):
				case <-ctx.Done():
				}
			}
		})
	}
	<-ctx.Done()
	k.mustSucceed(t)
	k.check(t, filepath.Join(p.dir, "journal"))
	started := 0
	events, err := p.Events(t.Context(), api.EventOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Events {
		if e.Kind == fleet.EventReplicaStarted {
			started++
		}
	}
	t.Logf("%d starts", started)
	if started < 3*servers {
		t.Errorf("%d starts of %d servers, want them to stop and start", started, servers)
	}
}
