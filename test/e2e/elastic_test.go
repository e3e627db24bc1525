//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// count returns an error unless demo has this many READY replicas, and no others
// that have not ended.
func (c *Cluster) count(server string, n int) error {
	all, ready := c.ReplicasOf(server, ""), c.ReplicasOf(server, "READY")
	if len(ready) != n || len(all) != n {
		return fmt.Errorf("%d replicas, %d of them READY, want %d", len(all), len(ready), n)
	}
	return nil
}

// hold lets a load go on for a while.
func hold(d time.Duration) { <-time.After(d) }

// Scaling by hand and by load fails no call that has room to queue, also to zero and
// back, and also if the load comes back during the step to zero.
func TestScalingFailsNoCall(t *testing.T) {
	p := NewPlane(t, 1)
	fixed := func(n int) string { return p.demoSpec("", fmt.Sprintf(`"replicas": %d`, n)) }
	p.Fleet("servers: { demo: %s }", fixed(10))
	p.Start(2)
	calls := p.callsLike(100, lastingLong)
	for _, n := range []int{1, 5} {
		if _, err := p.Scale(t.Context(), "demo", n, writeAny); err != nil {
			t.Fatal(err)
		}
		harness.Eventually(t, patience, func() error { return p.count("demo", n) })
		hold(4 * time.Second)
	}
	p.put("demo", p.demoSpec("", `"autoscaling": {"min_replicas": 0, "max_replicas": 5, "target_ongoing_requests": 20,
		"downscale_delay_s": 2, "look_back_period_s": 2}`))
	harness.Eventually(t, patience, func() error { return p.count("demo", 5) }) // 100 calls a second of 1.5 s
	hold(4 * time.Second)
	calls.mustSucceed(t)
	harness.Eventually(t, patience, func() error { // the step to zero is under way
		if n := len(p.ReplicasOf("demo", "READY")); n > 0 {
			return fmt.Errorf("%d replicas still serve", n)
		}
		return nil
	})
	back := p.callsLike(100, lastingLong)
	harness.Eventually(t, patience, func() error { return p.count("demo", 5) })
	back.mustSucceed(t)
	harness.Eventually(t, patience, func() error { return p.count("demo", 0) })
	if s := p.Server("demo"); s.State != fleet.StateIdle {
		t.Errorf("without calls: %s, %s", s.State, s.Reason)
	}
	again := p.callsLike(100, lastingLong)
	harness.Eventually(t, patience, func() error { return p.count("demo", 5) })
	again.mustSucceed(t)
}

// Twelve callers of a tool that takes 100 ms, at two calls for each replica, get six
// replicas. They are gone again soon after the callers are.
func TestFollowsTheLoad(t *testing.T) {
	p := NewPlane(t, 3)
	p.Fleet("servers: { demo: %s }", p.demoSpec("", `"autoscaling": {"min_replicas": 0, "target_ongoing_requests": 2,
		"downscale_delay_s": 3, "look_back_period_s": 2}`))
	p.Start(2)
	if took := followsTheLoad(t, p); took > 3*time.Second {
		t.Errorf("six replicas after %s, want them within 3 s", took)
	}
}

// awaitKnown waits until all controllers know the servers. Followers hear of them a
// moment after the leader has written them.
func (p *Plane) awaitKnown() {
	p.t.Helper()
	for _, l := range p.living() {
		harness.Eventually(p.t, patience, func() error {
			known, err := l.client.List(p.t.Context(), api.ReadOptions{Stale: true})
			if err == nil && len(known.Servers) == 0 {
				err = errors.New("no server is known yet")
			}
			return err
		})
	}
}

// followsTheLoad returns how long after the first call six replicas served.
func followsTheLoad(t *testing.T, p *Plane) time.Duration {
	t.Helper()
	p.awaitKnown()
	harness.Eventually(t, patience, func() error { return p.count("demo", 0) })
	var callers sync.WaitGroup
	over, failed := make(chan struct{}), make(chan error, 12)
	began := time.Now()
	for range 12 {
		callers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if _, err := p.Text("demo", "slow", `{"ms":100}`); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	harness.Eventually(t, patience, func() error {
		select {
		case err := <-failed:
			t.Fatal(err)
		default:
		}
		return p.count("demo", 6)
	})
	took := since(began)
	t.Logf("six replicas after %s", took)
	hold(3 * time.Second)
	if n := len(p.ReplicasOf("demo", "")); n != 6 {
		t.Errorf("%d replicas under a steady load, want 6", n)
	}
	close(over)
	callers.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	harness.Eventually(t, patience, func() error { return p.count("demo", 0) })
	return took
}

// A call to an idle server is answered, whichever controller and path it comes by,
// and also if the server has never run. With a warm spare it is answered at once.
func TestWakesFromZero(t *testing.T) {
	p := NewPlane(t, 3)
	const scaling = `"autoscaling": {"min_replicas": 0, "max_replicas": 2, "downscale_delay_s": 0.2, "look_back_period_s": 0.2}`
	p.Fleet("servers: { demo: %s }", p.demoSpec("", scaling))
	p.Start(2)
	if s := p.Server("demo"); s.State != fleet.StateIdle || s.Ready != 0 {
		t.Fatalf("before the first call: %+v", s)
	}
	p.awaitKnown()
	for name, l := range p.lives {
		raw, err := l.client.Call(t.Context(), "", api.CallRequest{ToolName: "slow", ToolArgs: []byte(`{"ms":0}`)})
		if err != nil {
			t.Errorf("through %s: %s, %v", name, raw, err)
		}
		harness.Eventually(t, patience, func() error { return p.count("demo", 0) })
		tools, err := p.Tools(t.Context(), "demo")
		if err != nil || !slices.ContainsFunc(tools.Tools, func(x api.Tool) bool { return x.Name == "slow" }) {
			t.Errorf("the idle server lists %d tools, %v", len(tools.Tools), err)
		}
	}
	p.wake("plain processes", 0, 500*time.Millisecond)
	p.put("demo", p.demoSpec("", scaling+`, "warm": 1`))
	p.wake("with a warm spare", 1, 100*time.Millisecond)
}

// wake calls demo 20 times while it is idle but for its spares. It fails the test if
// the median is not below the limit.
func (p *Plane) wake(what string, spares int, limit time.Duration) {
	p.t.Helper()
	var took []time.Duration
	for range 20 {
		harness.Eventually(p.t, patience, func() error { return p.idles(spares) })
		begin := time.Now()
		p.MustText("demo", "slow", `{"ms":0}`)
		took = append(took, since(begin))
	}
	slices.Sort(took)
	median := took[len(took)/2]
	p.t.Logf("a call to an idle server, %s: median %s, slowest %s", what, median, took[len(took)-1])
	if median >= limit {
		p.t.Errorf("a call to an idle server, %s, takes %s, want less than %s: %s", what, median, limit, took)
	}
}

// idles returns an error unless demo runs nothing but this many ready spares.
func (p *Plane) idles(spares int) error {
	for _, r := range p.ReplicasOf("demo", "") {
		if !r.Spare || r.Phase != "READY" {
			return fmt.Errorf("replica %s is %s, spare: %v", r.ID, r.Phase, r.Spare)
		}
		spares--
	}
	if s := p.Server("demo"); s.State != fleet.StateIdle || spares != 0 {
		return fmt.Errorf("%d spares are missing, %s: %s", spares, s.State, s.Reason)
	}
	return nil
}

// Containers follow the load like processes, and wake from zero.
func TestContainersFollowTheLoad(t *testing.T) {
	needPodman(t)
	image := smallImage(t) // removed after the cluster
	p := NewPlane(t, 1)
	p.runtime = "podman"
	spec := func(keys string) string {
		return fmt.Sprintf(`{"image": %q, "network": "none", "env": {"TOKEN": %q}, %s}`, image, p.token, keys)
	}
	p.Fleet("servers: { demo: %s }", spec(`"autoscaling": {"min_replicas": 0, "downscale_delay_s": 1, "look_back_period_s": 1}`))
	p.Start(2)
	// Podman's starts share the processors with whatever else runs, so one of the times may
	// be long.
	took := []time.Duration{followsTheLoad(t, p), followsTheLoad(t, p), followsTheLoad(t, p)}
	slices.Sort(took)
	if took[1] > 3*time.Second || took[2] > 10*time.Second {
		t.Errorf("six replicas after %s, want them within 3 s", took)
	}
	const soon = `"autoscaling": {"min_replicas": 0, "downscale_delay_s": 0.2, "look_back_period_s": 0.2}`
	p.put("demo", spec(soon))
	p.wake("a small container", 0, time.Second)
	p.put("demo", spec(soon+`, "warm": 1`))
	p.wake("a small container, with a warm spare", 1, 100*time.Millisecond)
}

// smallImage makes an image of nothing but the test server.
func smallImage(t testing.TB) string {
	t.Helper()
	image, archive := "localhost/"+newToken(t)+":1", filepath.Join(t.TempDir(), "image.tar")
	out, err := exec.Command("tar", "-cf", archive, "-C", filepath.Dir(program("testserver")), "testserver").CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	if _, err := podman("import", "--change", `ENTRYPOINT ["/testserver"]`, archive, image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = podman("rmi", "-f", image) })
	return image
}

// A hundred callers of an idle server that cannot start get the reason soon, and
// start a few replicas, not a hundred.
func TestIdleServerThatCannotStart(t *testing.T) {
	t.Run("process", func(t *testing.T) {
		p := NewPlane(t, 1)
		p.Fleet("servers: { demo: %s }", p.demoSpec(`"-exit", "7"`, `"autoscaling": {"min_replicas": 0}`))
		cannotStart(t, p)
	})
	t.Run("podman", func(t *testing.T) {
		needPodman(t)
		image := smallImage(t) // removed after the cluster
		p := NewPlane(t, 1)
		p.runtime = "podman"
		p.Fleet(`servers: { demo: {"image": %q, "args": ["-exit", "7"], "network": "none", "env": {"TOKEN": %q},
			"max_queued_requests": 5000, "autoscaling": {"min_replicas": 0}} }`, image, p.token)
		cannotStart(t, p)
	})
}

func cannotStart(t *testing.T, p *Plane) {
	t.Helper()
	p.Start(2)
	var callers sync.WaitGroup
	errs, answers := make([]error, 100), make([]time.Time, 100)
	begin := time.Now()
	for i := range errs {
		callers.Go(func() {
			_, errs[i] = p.Text("demo", "slow", `{"ms":0}`)
			answers[i] = time.Now()
		})
	}
	callers.Wait()
	failed, answered := slices.MinFunc(answers, time.Time.Compare), slices.MaxFunc(answers, time.Time.Compare)
	for _, err := range errs {
		e, ok := errors.AsType[*api.Error](err)
		if !ok || e.Status != 503 || !strings.Contains(e.Detail, "the license has expired") {
			t.Fatalf("got %v, want the reason", err)
		}
	}
	events, err := p.Events(t.Context(), api.EventOptions{})
	if err != nil {
		t.Fatal(err)
	}
	started := 0
	for _, e := range events.Events {
		switch {
		case e.Kind == fleet.EventReplicaStarted:
			started++
		case e.Kind == fleet.EventReplicaFailed && e.Time.Before(failed):
			failed = e.Time // the leader has the same clock
		}
	}
	t.Logf("answered %s after the first call, %s after the first failure", answered.Sub(begin), answered.Sub(failed))
	if answered.Sub(failed) > 2*time.Second || answered.Sub(begin) > 5*time.Second {
		t.Errorf("answered %s after the first call, %s after the first failure", answered.Sub(begin), answered.Sub(failed))
	}
	if started == 0 || started >= 5 {
		t.Errorf("%d starts, want fewer than 5", started)
	}
}
