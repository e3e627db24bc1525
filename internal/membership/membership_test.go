package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// cluster is the raft and the ring of a Keeper.
type cluster struct {
	mu       sync.Mutex
	voters   []fleet.Voter
	members  []fleet.Member
	expect   int
	err      error              // of every change
	mute     fleet.ControllerID // raft cannot reach it
	lags     fleet.ControllerID // it stores nothing
	tries    int
	recorded []string
}

func (c *cluster) ID() fleet.ControllerID { return "a" }

func (c *cluster) State() *desired.State {
	return &desired.State{Cluster: "k1", Expect: c.expect}
}

func (c *cluster) Members() ([]fleet.Voter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.voters), nil
}

func (c *cluster) change(id fleet.ControllerID, to ...fleet.Voter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries++; c.err != nil {
		return c.err
	}
	c.voters = append(slices.DeleteFunc(slices.Clone(c.voters), func(v fleet.Voter) bool { return v.ID == id }), to...)
	return nil
}

func (c *cluster) AddNonvoter(id fleet.ControllerID) error { return c.change(id, fleet.Voter{ID: id}) }
func (c *cluster) AddVoter(id fleet.ControllerID) error {
	return c.change(id, fleet.Voter{ID: id, Voting: true})
}
func (c *cluster) Remove(id fleet.ControllerID) error { return c.change(id) }

func (c *cluster) Answered(id fleet.ControllerID) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.mute {
		return time.Time{}
	}
	return time.Now()
}

func (c *cluster) PeerProblem(id fleet.ControllerID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.lags {
		return "it has stored nothing for 6s: disk full"
	}
	return ""
}

func (c *cluster) ring() []fleet.Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.members)
}

func (c *cluster) start(m fleet.Member) {
	c.kill(string(m.Controller))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(c.members, m)
}

func (c *cluster) kill(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(c.members, func(m fleet.Member) bool { return string(m.Controller) == id })
}

// shows are the members as in scene, sorted.
func (c *cluster) shows() string {
	voters, _ := c.Members()
	var out []string
	for _, v := range voters {
		word := string(v.ID)
		if !v.Voting {
			word += "~"
		}
		out = append(out, word)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// run keeps the cluster for a test, whose steps are in seconds of its clock.
func run(t *testing.T, c *cluster, test func(after func(time.Duration, string))) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		k := New(Config{
			Store: c, Members: c.ring, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Record: func(kind fleet.EventKind, message string) { c.recorded = append(c.recorded, string(kind)+": "+message) },
		})
		go func() { done <- k.Run(ctx) }()
		time.Sleep(time.Millisecond) // between two looks
		began := time.Now()
		test(func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := c.shows(); got != want {
				t.Errorf("after %s: members are %q, want %q", time.Since(began), got, want)
			}
		})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// three is a cluster of three that is well.
func three() *cluster {
	return &cluster{
		expect:  3,
		voters:  []fleet.Voter{{ID: "a", Voting: true}, {ID: "b", Voting: true}, {ID: "c", Voting: true}},
		members: []fleet.Member{controller("a", of("k1")), controller("b", of("k1")), controller("c", of("k1"))},
	}
}

func TestReplacement(t *testing.T) {
	c := three()
	run(t, c, func(after func(time.Duration, string)) {
		after(time.Hour, "a b c")
		c.kill("c")
		after(time.Hour, "a b c") // nobody votes in its place
		c.start(controller("d"))
		after(2*time.Second, "a b c d~")
		after(7*time.Second, "a b c d~")
		after(3*time.Second, "a b d")
		c.start(controller("c", of("k1"))) // it was only slow to come back
		after(2*time.Second, "a b c~ d")
		after(10*time.Second, "a b c d")
		after(time.Hour, "a b c d")
	})
	want := []string{
		"controller_lost: controller nc (c) lost: gossip no longer sees it",
		"controller_added: controller nd (d) added: it is new; it gets a vote once it has been healthy for 10s",
		"controller_promoted: controller nd (d) promoted: healthy for 10s",
		"controller_removed: controller nc (c) removed: dead for 1h0m11s, and controller nd (d) votes in its place",
		"controller_added: controller nc (c) added: it is of this cluster; it gets a vote once it has been healthy for 10s",
		"controller_promoted: controller nc (c) promoted: healthy for 10s",
	}
	// Looks are a second apart: a second more or less is no matter.
	got := strings.ReplaceAll(strings.Join(c.recorded, "\n"), "1h0m10s", "1h0m11s")
	if got != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestComesBack(t *testing.T) {
	c := three()
	run(t, c, func(after func(time.Duration, string)) {
		for range 3 {
			c.kill("c")
			after(time.Hour, "a b c")
			c.start(controller("c", of("k1")))
			after(time.Hour, "a b c")
		}
	})
	if c.tries != 0 {
		t.Errorf("changed the configuration %d times", c.tries)
	}
	if len(c.recorded) != 6 {
		t.Errorf("recorded %q; want three losses and three returns", c.recorded)
	}
}

func TestFlapping(t *testing.T) {
	c := &cluster{expect: 1, voters: []fleet.Voter{{ID: "a", Voting: true}}, members: []fleet.Member{controller("a", of("k1"))}}
	run(t, c, func(after func(time.Duration, string)) {
		c.start(controller("d"))
		after(2*time.Second, "a d~")
		for range 10 {
			after(6*time.Second, "a d~")
			c.kill("d")
			after(2*time.Second, "a d~")
			c.start(controller("d"))
		}
		for i := range 3 { // a new life is a break, too, even if nobody saw the death
			after(8*time.Second, "a d~")
			c.start(controller("d", func(m *fleet.Member) { m.Life = fleet.LifeID(fmt.Sprint(i)) }))
		}
		after(8*time.Second, "a d~")
		after(4*time.Second, "a d")
	})
}

// One that stores nothing is named, once, and gets no vote meanwhile.
func TestLagging(t *testing.T) {
	c := &cluster{expect: 1, voters: []fleet.Voter{{ID: "a", Voting: true}}, members: []fleet.Member{controller("a", of("k1"))}, lags: "d"}
	run(t, c, func(after func(time.Duration, string)) {
		c.start(controller("d"))
		after(time.Hour, "a d~")
		c.mu.Lock()
		c.lags = ""
		c.mu.Unlock()
		after(2*time.Second, "a d")
		c.mu.Lock()
		c.lags = "d"
		c.mu.Unlock()
		after(2*time.Second, "a d")
		c.kill("d") // which is recorded already
		after(2*time.Second, "a d")
	})
	const lags, caughtUp = "controller_lagging: controller nd (d) lags: it has stored nothing for 6s: disk full",
		"controller_caught_up: controller nd (d) has caught up: it stores what it is sent"
	var got []string
	for _, line := range c.recorded {
		if line == lags || line == caughtUp {
			got = append(got, line)
		}
	}
	if want := []string{lags, caughtUp, lags}; !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

// A vote for one that only gossip reaches would stop all writes of a cluster
// that is small.
func TestRaftCannotReachIt(t *testing.T) {
	c := &cluster{expect: 1, voters: []fleet.Voter{{ID: "a", Voting: true}}, members: []fleet.Member{controller("a", of("k1"))}, mute: "d"}
	run(t, c, func(after func(time.Duration, string)) {
		c.start(controller("d"))
		after(time.Hour, "a d~")
		c.mu.Lock()
		c.mute = ""
		c.mu.Unlock()
		after(2*time.Second, "a d")
	})
}

func TestNeverHadAVote(t *testing.T) {
	c := three()
	run(t, c, func(after func(time.Duration, string)) {
		c.start(controller("d"))
		after(2*time.Second, "a b c d~")
		c.kill("d")
		after(59*time.Second, "a b c d~")
		after(4*time.Second, "a b c")
		after(time.Hour, "a b c")
	})
}

func TestDeadAfter(t *testing.T) {
	c := three()
	c.expect = 1 // founded by one, and grown
	run(t, c, func(after func(time.Duration, string)) {
		c.kill("c")
		after(DefaultDeadAfter-time.Minute, "a b c")
		after(2*time.Minute, "a b")
	})
}

// A change that fails is tried again at every tick, and does not end Run.
func TestErrors(t *testing.T) {
	c := three()
	c.err = errors.New("not now")
	run(t, c, func(after func(time.Duration, string)) {
		c.start(controller("d"))
		after(5*time.Second, "a b c")
		if c.tries < 4 || c.tries > 6 {
			t.Errorf("tried %d times in 5 s, want one a second", c.tries)
		}
		if len(c.recorded) != 0 {
			t.Errorf("recorded %q though nothing was done", c.recorded)
		}
		c.mu.Lock()
		c.err = nil
		c.mu.Unlock()
		after(2*time.Second, "a b c d~")
	})
}

// A tenure begins with nothing remembered: promotions of an earlier one
// replace nobody, and times begin again.
func TestNextTenure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := three()
		k := New(Config{Store: c, Members: c.ring, Log: slog.New(slog.DiscardHandler)})
		for range 5 {
			c.start(controller("d", func(m *fleet.Member) { m.Expect = 0 }))
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			if err := k.Run(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			if got := c.shows(); got != "a b c d~" {
				t.Errorf("members are %q: healthy for 8 s in each tenure is not 10 s", got)
			}
		}
	})
}
