//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// demoSpec returns the spec of the server demo: the test server with these arguments,
// and further keys. It is marked with the test's token.
func (p *Plane) demoSpec(args, keys string) string {
	return fmt.Sprintf(`{"command": [%q, "-journal", %q], "args": [%s], "env": {"TOKEN": %q},
		"max_ongoing_requests": 1000, "max_queued_requests": 5000, "drain_timeout": "10s", %s}`,
		program("testserver"), filepath.Join(p.dir, "journal"), args, p.token, keys)
}

// revisionOf returns an argument of the test server that makes another revision.
func revisionOf(n int) string { return fmt.Sprintf(`"-version", "%d"`, n) }

// awaitRolledOut waits until a revision of demo is rolled out.
func (p *Plane) awaitRolledOut(rev fleet.Revision, within time.Duration) {
	p.t.Helper()
	harness.Eventually(p.t, within, func() error {
		s, err := p.GetServer(p.t.Context(), "demo", readNow)
		if err != nil {
			return err
		}
		if s.Revision != rev || s.Stable != rev || s.Rollout != nil || s.State != fleet.StateReady {
			return fmt.Errorf("revision %d, stable %d, %s: %s", s.Revision, s.Stable, s.State, s.Reason)
		}
		return nil
	})
}

// mustSucceed stops the calls, and fails the test if one of them failed.
func (k *traffic) mustSucceed(t testing.TB) {
	t.Helper()
	k.stop()
	t.Log(k)
	if k.good == 0 || k.bad > 0 {
		t.Errorf("%d calls succeeded, %d failed, such as %v", k.good, k.bad, errors.Join(k.failed...))
	}
}

// No call of 200 a second, which take up to 3 s, fails because of rolling updates of
// 1, 2 and 10 replicas. The leader is killed in the middle of some, and a worker in the
// middle of others.
func TestRollingUpdatesFailNoCall(t *testing.T) {
	p := NewPlane(t, 3)
	spec := func(version, replicas int) string {
		return p.demoSpec(revisionOf(version), fmt.Sprintf(`"replicas": %d, "update": {"min_ready": "1s"}`, replicas))
	}
	p.Fleet("servers: { demo: %s }", spec(1, 1))
	p.Start(3)
	p.awaitRolledOut(1, patience)
	calls := p.callsLike(200, lastingLong)
	killLeader := func() {
		leader := p.Leader()
		p.Kill(leader.name)
		p.Restart(leader.name)
	}
	killWorker := func() {
		p.Workers["w1"].Kill9()
		p.StartWorker("w1")
	}
	for i, update := range []struct {
		replicas int
		disturb  func()
	}{
		{1, func() {}}, {1, killLeader}, {2, killWorker}, {10, killLeader}, {10, killWorker},
	} {
		began := time.Now()
		p.put("demo", spec(i+1, update.replicas))
		p.AwaitReady(3)
		p.put("demo", spec(i+2, update.replicas))
		rev := fleet.Revision(i + 2)
		harness.Eventually(t, patience, func() error { return p.serves("demo", rev, max(1, update.replicas/5)) })
		if s, err := p.GetServer(t.Context(), "demo", readNow); err != nil || s.Rollout == nil {
			t.Errorf("revision %d is rolled out before the update is disturbed, %v", rev, err)
		}
		update.disturb()
		p.awaitRolledOut(rev, 2*patience)
		p.AwaitReady(3)
		t.Logf("revision %d, %d replicas: %s", rev, update.replicas, since(began))
	}
	calls.mustSucceed(t)
}

// serves returns an error unless this many replicas of a revision are READY.
func (c *Cluster) serves(server string, rev fleet.Revision, n int) error {
	ready := 0
	for _, r := range c.ReplicasOf(server, "READY") {
		if r.Revision == rev {
			ready++
		}
	}
	if ready < n {
		return fmt.Errorf("%d replicas of revision %d serve, want %d", ready, rev, n)
	}
	return nil
}

// Bad revisions are rolled back or held by themselves, and the reason is said. No
// call fails.
func TestBadRevisions(t *testing.T) {
	p := NewPlane(t, 1)
	spec := func(args, update string) string {
		return p.demoSpec(args, fmt.Sprintf(`"replicas": 2, "update": {"min_ready": "5s", "progress_deadline": "8s" %s}`, update))
	}
	good := spec("", "")
	p.Fleet("servers: { demo: %s }", good)
	p.Start(2)
	p.awaitRolledOut(1, patience)
	calls := p.callsLike(100, func(n int) request {
		return request{tool: "slow", want: "at last", args: fmt.Sprintf(`{"ms":%d}`, 20+n*13%200)}
	})
	for _, tt := range []struct {
		name, args, update, reason string
	}{
		{"cannot start", `"-exit", "7"`, "", "the license has expired"},
		{"dies after 3 s", `"-dies", "3s"`, "", "dying, as told"},
		{"fails its verification", `"-iserror"`, `, "verify": [{"tool": "slow", "args": {"ms": 1}, "expect": "ok"}]`, "verify"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := p.Server("demo").Revision
			w := p.put("demo", spec(tt.args, tt.update))
			bad := w.Revision
			if bad == before {
				t.Fatalf("the update made no revision: %+v", w)
			}
			harness.Eventually(t, 2*patience, func() error {
				s := p.Server("demo")
				if s.Failed == nil || s.Failed.Revision != bad || s.Revision != before || s.State != fleet.StateReady {
					return fmt.Errorf("revision %d, failed %+v, %s: %s", s.Revision, s.Failed, s.State, s.Reason)
				}
				if !strings.Contains(s.Reason, tt.reason) {
					return fmt.Errorf("reason %q, want %q in it", s.Reason, tt.reason)
				}
				return nil
			})
			again := p.put("demo", spec(tt.args, tt.update))
			if again.Revision != before {
				t.Errorf("applied again, revision %d is active, want %d", again.Revision, before)
			}
			p.put("demo", good)
			harness.Eventually(t, patience, func() error {
				if s := p.Server("demo"); s.Rollout != nil {
					return fmt.Errorf("still rolling: %s", s.Reason)
				}
				return nil
			})
		})
	}
	calls.mustSucceed(t)

	t.Run("lost a tool", func(t *testing.T) {
		calls := p.callsLike(100, lastingLong)
		w := p.put("demo", spec(`"-without", "raw"`, `, "on_breaking_tools": "hold"`))
		harness.Eventually(t, patience, func() error {
			s := p.Server("demo")
			if s.Rollout == nil || !strings.Contains(s.Rollout.Held, "raw") {
				return fmt.Errorf("rollout %+v, %s", s.Rollout, s.Reason)
			}
			return nil
		})
		if _, err := p.Text("demo", "raw", `{}`); err != nil {
			t.Errorf("the old tool while the rollout is held: %v", err)
		}
		p.mustCLI("", "rollout", "resume", "demo")
		p.awaitRolledOut(w.Revision, patience)
		calls.mustSucceed(t)
	})
}

// A revision that answers isError to all calls is rolled back by its canary, which
// gets no more than its share.
func TestCanary(t *testing.T) {
	p := NewPlane(t, 1)
	spec := func(args string) string {
		return p.demoSpec(args, `"replicas": 2, "update": {"min_ready": "1s", "canary": {"steps": ["20%", "50%"], "hold": "3s"}}`)
	}
	p.Fleet("servers: { demo: %s }", spec(""))
	p.Start(2)
	p.awaitRolledOut(1, patience)
	// The first step gets 40 calls a second, and is judged after 50 of them. That is long
	// before the 3 s are over and the next step would begin.
	calls := p.callsLike(200, func(n int) request { return request{tool: "slow", want: "at last", args: `{"ms":5}`} })
	p.put("demo", spec(`"-iserror"`))
	harness.Eventually(t, 2*patience, func() error {
		s := p.Server("demo")
		if s.Failed == nil || s.Failed.Revision != 2 || s.Revision != 1 {
			return fmt.Errorf("revision %d, failed %+v: %s", s.Revision, s.Failed, s.Reason)
		}
		if !strings.Contains(s.Failed.Reason, "isError") && !strings.Contains(s.Failed.Reason, "calls") {
			return fmt.Errorf("reason %q", s.Failed.Reason)
		}
		return nil
	})
	calls.stop()
	t.Log(calls, p.Server("demo").Failed.Reason)
	// The controller counts exactly: at no time has the new revision had more than a fifth
	// of the calls since the step began. The calls before and after it go to the old one.
	// So there is no chance in this limit.
	if all := calls.good + calls.bad; calls.bad < 50 || calls.bad > all/5+1 {
		t.Errorf("%d of %d calls went to the new revision, want 50, and 20 %% until it is rolled back", calls.bad, all)
	}
	w := p.put("demo", spec(revisionOf(3)))
	p.awaitRolledOut(w.Revision, 2*patience)
	if s := p.Server("demo"); s.Failed != nil {
		t.Errorf("after an update that works: %+v", s.Failed)
	}
}
