package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// inBubble runs a test of three controllers in a synctest bubble.
func inBubble(t *testing.T, test func(t *testing.T, c *cluster, wires *pipes)) {
	bubble.Test(t, func(t *testing.T) {
		c, p := newCluster(t), newPipes()
		c.net.under = p
		startThree(c)
		c.must(put("a", "x"))
		c.agree()
		test(t, c, p)
	})
}

// A controller that was away, however long, soon has everything that was written
// meanwhile.
func TestBackFromAway(t *testing.T) {
	for _, away := range []time.Duration{3 * time.Second, 15 * time.Second, 5 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, c *cluster, _ *pipes) {
				gone := c.followers()[0]
				c.kill(gone)
				c.must(put("a", "y"))
				time.Sleep(away)
				back := c.restart(gone)
				begun := time.Now()
				eventually(t, "it knows what was written", func() error { return has(back.State(), "a", "y") })
				if took := time.Since(begun); took > time.Second {
					t.Errorf("it took %s", took)
				}
				if p := back.Problem(); p != "" {
					t.Errorf("its problem is %q", p)
				}
			})
		})
	}
}

// The same holds if the leader's log no longer has the entries that it missed.
func TestBackWithoutLog(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, _ *pipes) {
		gone := c.followers()[0]
		c.kill(gone)
		for i := range 1200 {
			c.must(put("a", fmt.Sprint(i)))
		}
		time.Sleep(5 * time.Minute) // a snapshot is taken
		back := c.restart(gone)
		begun := time.Now()
		eventually(t, "it knows what was written", func() error { return has(back.State(), "a", "1199") })
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A controller whose disk was full soon has everything that was written meanwhile,
// once there is room.
func TestRoomAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.net.under = newPipes()
		disk := faulty(c)
		startThree(c)
		c.agree()
		bad := c.followers()[0]
		disk(bad).refuse(errFull)
		c.must(put("a", "y"))
		time.Sleep(time.Minute)
		disk(bad).refuse(nil)
		begun := time.Now()
		eventually(t, "it knows what was written", func() error { return has(bad.State(), "a", "y") })
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A controller that was removed while it was away gets no more requests.
func TestRemovedWhileAway(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, p *pipes) {
		gone := c.followers()[0]
		addr, _ := c.net.resolve(gone.ID())
		c.kill(gone)
		c.must(put("a", "y"))
		time.Sleep(5 * time.Second)
		if err := c.leader().Remove(gone.ID()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		before := p.dialed(addr)
		time.Sleep(5 * time.Second)
		if n := p.dialed(addr) - before; before == 0 || n > 0 {
			t.Errorf("it was called %d times, and %d times more later on", before, n)
		}
	})
}

// Handing leadership to a controller that is away fails, and writes go on.
func TestTransferToOneAway(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, _ *pipes) {
		gone := c.followers()[0]
		c.kill(gone)
		c.must(put("a", "y"))
		leader := c.leader()
		for range 3 {
			if err := leader.Transfer(t.Context(), gone.ID()); !errors.Is(err, fleet.ErrConflict) {
				t.Errorf("hand leadership to it: %v, want a conflict", err)
			}
		}
		for i := range 3 {
			time.Sleep(time.Second)
			if _, err := leader.Propose(t.Context(), put("b", fmt.Sprint(i))); err != nil {
				t.Errorf("a write: %v", err)
			}
		}
	})
}
