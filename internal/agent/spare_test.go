package agent

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// spare orders a spare.
func (r *rig) spare(id fleet.ReplicaID, edit func(*fleet.Template)) {
	r.t.Helper()
	as := assignment(id, edit)
	as.Spare = true
	if _, err := r.StartReplica(r.t.Context(), order, as); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) activate(id fleet.ReplicaID) uint64 {
	r.t.Helper()
	version, err := r.ActivateReplica(r.t.Context(), order, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return version
}

// A spare is READY with its catalogue, refuses calls as not delivered, and takes them
// as soon as it is activated.
func TestASpareTakesCallsOnceActivated(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.spare("a", nil)
		if got := r.until("a", fleet.PhaseReady); !got.Spare || got.Catalogue == "" {
			t.Errorf("reported %+v, want a spare with a catalogue", got)
		}
		if e := r.call("a", "whoami", "{}").reply(t); !errors.Is(e.Err, fleet.ErrNotDelivered) {
			t.Errorf("a call to a spare: got %v, want not delivered", e.Err)
		}
		version := r.activate("a")
		if got := r.call("a", "whoami", "{}").text(t); got != "a" {
			t.Errorf("a call to the activated one: got %q", got)
		}
		synctest.Wait()
		if got := r.view.snapshot(); got.replicas["a"].Spare || got.last.Version < version {
			t.Errorf("reported %+v in version %d, want no spare in version %d", got.replicas["a"], got.last.Version, version)
		}
		if again := r.activate("a"); again != version {
			t.Errorf("activated again: version %d, want %d as before", again, version)
		}
	})
}

// A spare that is activated while it starts is an ordinary replica once READY.
func TestASpareIsActivatedWhileItStarts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Inject(agenttest.Fault{Step: agenttest.StepStart, Delay: time.Second})
		r := newRig(t, rt, nil)
		r.spare("a", nil)
		synctest.Wait()
		r.activate("a")
		if got := r.until("a", fleet.PhaseReady); got.Spare {
			t.Errorf("reported %+v, want no spare", got)
		}
		if got := r.call("a", "whoami", "{}").text(t); got != "a" {
			t.Errorf("a call: got %q", got)
		}
	})
}

// Activations are fenced like other orders, and leave ended, stopping and unknown
// replicas as they are.
func TestActivationsThatChangeNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.spare("a", nil)
		r.until("a", fleet.PhaseReady)
		r.order("a", "no longer needed")
		r.activate("a")
		if e := r.call("a", "whoami", "{}").reply(t); !errors.Is(e.Err, fleet.ErrNotDelivered) {
			t.Errorf("a call to a stopping spare: got %v, want not delivered", e.Err)
		}
		if got := r.until("a", fleet.PhaseStopped); !got.Spare {
			t.Errorf("reported %+v, want a spare", got)
		}
		r.activate("a")
		if _, err := r.ActivateReplica(t.Context(), order, "b"); !errors.Is(err, fleet.ErrUnknownReplica) {
			t.Errorf("unknown replica: got %v", err)
		}
		if _, err := r.ActivateReplica(t.Context(), fleet.Order{Cluster: cluster}, "a"); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("older epoch: got %v", err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ActivateReplica(t.Context(), order, "a"); !errors.Is(err, fleet.ErrDraining) {
			t.Errorf("stopped: got %v", err)
		}
	})
}

// A spare's health is checked, so that one that hangs is replaced before it is needed.
func TestASparesHealthIsChecked(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Handle("a", agenttest.Echo{DieOfPing: true}.Serve)
		r := newRig(t, rt, nil)
		r.spare("a", nil)
		if got := r.until("a", fleet.PhaseFailed); !got.Spare || !got.WasReady() {
			t.Errorf("reported %+v, want a spare that was READY", got)
		}
	})
}

// An image is pulled ahead of need once, however often that is ordered, and not on a
// node that runs no images.
func TestPullImage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Inject(agenttest.Fault{Step: agenttest.StepPull, Delay: time.Second})
		r := newRig(t, rt, nil)
		pull := func(image string, policy fleet.PullPolicy) {
			t.Helper()
			if err := r.PullImage(t.Context(), order, image, policy); err != nil {
				t.Fatal(err)
			}
		}
		pull("one", fleet.PullMissing)
		pull("one", fleet.PullMissing)
		pull("two", fleet.PullNever)
		synctest.Wait()
		if got := rt.Prepared(); !slices.Equal(got, []string{"one"}) {
			t.Errorf("prepared %q, want one alone", got)
		}
		time.Sleep(2 * time.Second)
		pull("one", fleet.PullAlways)
		synctest.Wait()
		if got := rt.Prepared(); !slices.Equal(got, []string{"one", "one"}) {
			t.Errorf("prepared %q, want one again after its pull", got)
		}
		if err := r.PullImage(t.Context(), fleet.Order{Cluster: cluster}, "one", ""); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("older epoch: got %v", err)
		}
		if err := r.PullImage(t.Context(), order, "", ""); err == nil {
			t.Error("a pull of nothing was accepted")
		}
		if err := r.stop(); err != nil { // in mid-pull
			t.Fatal(err)
		}
	})
}

// Few images are pulled ahead of need at once, so that a start which needs another one
// does not wait for them.
func TestPullsAheadAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		rt.Inject(agenttest.Fault{Step: agenttest.StepPull, Delay: time.Second})
		r := newRig(t, rt, nil)
		for _, image := range []string{"one", "two", "three", "four", "five"} {
			if err := r.PullImage(t.Context(), order, image, fleet.PullMissing); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int{2, 4, 5, 5} {
			synctest.Wait()
			if got := len(rt.Prepared()); got != want {
				t.Errorf("after %d s: %d pulls have begun, want %d", i, got, want)
			}
			time.Sleep(time.Second)
		}
		if err := r.PullImage(t.Context(), order, "six", fleet.PullMissing); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := rt.Prepared(); !slices.Contains(got, "six") {
			t.Errorf("prepared %q, and not a later one", got)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// slowToEnd needs a second to end a pull, and fails to close meanwhile.
type slowToEnd struct {
	*agenttest.Runtime
	pulling atomic.Bool
}

func (rt *slowToEnd) Prepare(ctx context.Context, _ fleet.Launch) error {
	rt.pulling.Store(true)
	defer rt.pulling.Store(false)
	<-ctx.Done()
	time.Sleep(time.Second)
	return context.Cause(ctx)
}

func (rt *slowToEnd) Close(ctx context.Context) error {
	if rt.pulling.Load() {
		return errors.New("closed in mid-pull")
	}
	return rt.Runtime.Close(ctx)
}

// The runtime is used no more when it is closed.
func TestPullsEndBeforeTheRuntimeIsClosed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		r := newRig(t, rt, func(c *Config) { c.Runtime = &slowToEnd{Runtime: rt} })
		if err := r.PullImage(t.Context(), order, "one", fleet.PullMissing); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPullImageWhereNoImagesRun(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		rt := agenttest.New()
		r := newRig(t, rt, func(c *Config) { c.Node.Runtimes = []string{fleet.RuntimeProcess} })
		if err := r.PullImage(t.Context(), order, "one", fleet.PullMissing); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := rt.Prepared(); len(got) > 0 {
			t.Errorf("prepared %q", got)
		}
	})
}
