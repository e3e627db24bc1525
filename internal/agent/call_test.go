package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestCallEvents(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), func(c *Config) { c.MaxReply = 1 << 20 })
		r.ready("a", nil)
		is := func(name string, c *caller, want error) {
			t.Helper()
			if e := c.reply(t); !errors.Is(e.Err, want) || e.Ongoing != 0 || e.Holding {
				t.Errorf("%s: got %v, ongoing %d, holding %v; want %v", name, e.Err, e.Ongoing, e.Holding, want)
			}
		}
		is("bad reply", r.call("a", "bad", `{}`), fleet.ErrBadReply)
		is("too large", r.call("a", "big", `{"bytes":2000000}`), fleet.ErrReplyTooLarge)
		is("elsewhere", r.call("b", "echo", `{}`), fleet.ErrNotDelivered)
		if e := r.call("a", "error", `{}`).reply(t); len(e.Error) == 0 || e.Err != nil || e.Result != nil {
			t.Errorf("JSON-RPC error: %+v", e)
		}
		if e := r.call("a", "fail", `{"text":"no"}`).reply(t); len(e.Result) == 0 || e.Err != nil {
			t.Errorf("isError: %+v", e)
		}
		if got := r.call("a", "noise", `{"text":"signal"}`).text(t); got != "signal" {
			t.Errorf("noise: %q", got)
		}
		slow := r.call("a", "slow", `{"ms":3000}`)
		if got := slow.text(t); got != "slept" || slow.count(fleet.CallProgress) != 2 {
			t.Errorf("slow: %q with %d progress events", got, slow.count(fleet.CallProgress))
		}

	})
}

// A call that asks for notifications gets each one. Others only see that there
// was progress.
func TestCallNotifications(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		for _, wanted := range []bool{true, false} {
			var notes []string
			done := make(chan struct{})
			r.Call(fleet.CallRequest{
				Replica: "a", Method: "tools/call", Notifications: wanted,
				Params: []byte(`{"name":"slow","arguments":{"ms":3000},"_meta":{"progressToken":"t"}}`),
			}, func(e fleet.CallEvent) {
				switch e.Kind {
				case fleet.CallNotification:
					notes = append(notes, e.Method+string(e.Params))
				case fleet.CallReply:
					close(done)
				}
			})
			<-done
			if wanted != (len(notes) == 2) || wanted && !strings.Contains(notes[1], `notifications/progress{"progressToken":"t",`) {
				t.Errorf("wanted %v: got %q", wanted, notes)
			}
		}
	})
}

func TestCancelledCallHoldsItsSlot(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		frozen := r.call("a", "freeze", `{"ms":20000}`)
		synctest.Wait()
		queued := r.call("a", "echo", `{"text":"x"}`)
		synctest.Wait()
		began := time.Now()
		queued.cancel(false)
		queued.cancel(true) // too late, and harmless
		if e := queued.reply(t); e.Err == nil || errors.Is(e.Err, fleet.ErrTimeout) || !e.Holding || e.Ongoing != 2 {
			t.Errorf("reply to the cancelled call: %+v", e)
		}
		v := r.view.until(t, "the load is reported", func(v *view) (bool, any) {
			return v.replicas["a"].Load.Ongoing == 2, v.replicas["a"].Load
		})
		if v.replicas["a"].Load.Total != 2 {
			t.Errorf("load %+v", v.replicas["a"].Load)
		}
		if frozen.text(t) != "thawed" {
			t.Error("the other call suffered")
		}
		<-queued.released
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("released after %s", took)
		}
		if n := queued.count(fleet.CallReleased); n != 1 {
			t.Errorf("%d released events", n)
		}
		r.view.until(t, "the load is reported", func(v *view) (bool, any) {
			return v.replicas["a"].Load.Ongoing == 0, v.replicas["a"].Load
		})
	})
}

func TestDrainWaitsForCalls(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		slow := r.call("a", "slow", `{"ms":9000}`)
		hung := r.call("a", "hang", `{}`)
		synctest.Wait()
		hung.cancel(false) // nobody waits for it any more: nor does the drain
		began := time.Now()
		r.order("a", "bye")
		if e := r.call("a", "echo", `{}`).reply(t); !errors.Is(e.Err, fleet.ErrNotDelivered) {
			t.Errorf("a call while draining: %v", e.Err)
		}
		if got := slow.text(t); got != "slept" {
			t.Errorf("the running call: %q", got)
		}
		r.until("a", fleet.PhaseStopped)
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestDrainTimeout(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		hung := r.call("a", "hang", `{}`)
		began := time.Now()
		r.order("a", "bye")
		if e := hung.reply(t); !errors.Is(e.Err, fleet.ErrReplicaLost) || errors.Is(e.Err, fleet.ErrNotDelivered) {
			t.Errorf("the running call: %v", e.Err)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestNodeStopShortensADrain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), func(c *Config) { c.DrainTimeout = time.Second })
		r.ready("a", func(tpl *fleet.Template) { tpl.DrainTimeout = time.Hour })
		r.call("a", "hang", `{}`)
		r.order("a", "bye")
		synctest.Wait()
		began := time.Now()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestCrashEndsCallsInFlight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		hung := r.call("a", "hang", `{}`)
		frozen := r.call("a", "freeze", `{}`)
		synctest.Wait()
		r.rt.Kill("a")
		for _, c := range []*caller{hung, frozen} {
			if e := c.reply(t); !errors.Is(e.Err, fleet.ErrReplicaLost) {
				t.Errorf("got %v", e.Err)
			}
		}
		r.until("a", fleet.PhaseFailed)
	})
}

// Every call is answered once, rightly, and every slot is given back, while
// replicas are killed, stopped and replaced and callers give up at random.
func TestCallsUnderKills(t *testing.T) {
	r := newRig(t, agenttest.New(), nil)
	const replicas, callers, each = 3, 8, 200
	name := func(i, life int) fleet.ReplicaID { return fleet.ReplicaID(fmt.Sprintf("r%d-%d", i, life)) }
	var mu sync.Mutex
	current := make([]fleet.ReplicaID, replicas)
	for i := range replicas {
		current[i] = name(i, 0)
		r.ready(current[i], nil)
	}
	var work sync.WaitGroup
	answered := make([]int, callers)
	for n := range callers {
		work.Go(func() {
			for k := range each {
				mu.Lock()
				id := current[rand.IntN(replicas)]
				mu.Unlock()
				text := fmt.Sprintf("%d/%d", n, k)
				c := r.call(id, "echo", fmt.Sprintf(`{"text":%q}`, text))
				if rand.IntN(4) == 0 {
					c.cancel(rand.IntN(2) == 0)
				}
				e := c.reply(t)
				if e.Err == nil {
					answered[n]++
					if got := c.text(t); got != text {
						t.Errorf("asked %q, got %q", text, got)
					}
				}
				if e.Holding {
					<-c.released
				}
			}
		})
	}
	for life := 1; life <= 8; life++ {
		i := rand.IntN(replicas)
		next := name(i, life)
		r.ready(next, nil)
		mu.Lock()
		old := current[i]
		current[i] = next
		mu.Unlock()
		if life%2 == 0 {
			r.rt.Kill(old)
		} else {
			r.order(old, "replaced")
		}
	}
	work.Wait()
	total := 0
	for _, n := range answered {
		total += n
	}
	if total < callers*each/3 {
		t.Errorf("only %d of %d calls were answered", total, callers*each)
	}
	for _, id := range current {
		if got := r.replica(id).load().Ongoing; got != 0 {
			t.Errorf("%s still counts %d calls", id, got)
		}
	}
}
