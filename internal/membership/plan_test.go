package membership

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// scene is a world in short: "a b c! d~" are the voters a, b and c and the
// non-voter d, of which c is dead. A number is the seconds since which it has
// been so, an hour if there is none.
func scene(t *testing.T, expect int, members string, edit ...func(*world)) *world {
	t.Helper()
	w := &world{
		now: start, self: "a", cluster: "k1", expect: expect, deadAfter: DefaultDeadAfter,
		alive: map[fleet.ControllerID]fleet.Member{}, answered: func(fleet.ControllerID) time.Time { return start },
		memory: memory{seen: map[fleet.ControllerID]sight{}, promoted: map[fleet.ControllerID]time.Time{}},
	}
	for _, word := range strings.Fields(members) {
		id, rest := fleet.ControllerID(word[:1]), word[1:]
		rest, nonvoter := strings.CutSuffix(rest, "~")
		rest, dead := strings.CutSuffix(rest, "!")
		ago := time.Hour
		if rest != "" {
			var err error
			if ago, err = time.ParseDuration(rest); err != nil {
				t.Fatal(err)
			}
		}
		w.voters = append(w.voters, fleet.Voter{ID: id, Voting: !nonvoter})
		w.memory.seen[id] = sight{alive: !dead, since: start.Add(-ago)}
		if !dead {
			w.alive[id] = controller(string(id), of("k1"))
		}
	}
	for _, e := range edit {
		e(w)
	}
	return w
}

func also(m fleet.Member) func(*world) {
	return func(w *world) { w.alive[m.Controller] = m }
}

func promoted(id fleet.ControllerID, ago time.Duration) func(*world) {
	return func(w *world) { w.memory.promoted[id] = start.Add(-ago) }
}

func unheard(ago time.Duration) func(*world) {
	return func(w *world) { w.answered = func(fleet.ControllerID) time.Time { return start.Add(-ago) } }
}

func TestPlan(t *testing.T) {
	tests := []struct {
		name string
		w    *world
		want string // "" for nothing to do
	}{
		{"all is well", scene(t, 3, "a b c"), ""},
		{"alone", scene(t, 1, "a"), ""},

		{"a stateless controller is added", scene(t, 1, "a", also(controller("d"))), "added d: it is new; it gets a vote once it has been healthy for 10s"},
		{"one of this cluster is added again", scene(t, 1, "a", also(controller("d", of("k1")))), "added d: it is of this cluster; it gets a vote once it has been healthy for 10s"},
		{"one of another cluster is not", scene(t, 1, "a", also(controller("d", of("k2")))), ""},
		{"nor one that has just founded one", scene(t, 1, "a", also(controller("d", func(m *fleet.Member) { m.Expect = Founding }))), ""},

		{"no vote before ten seconds", scene(t, 1, "a d9.9s~"), ""},
		{"a vote after ten seconds", scene(t, 1, "a d10s~"), "promoted d: healthy for 10s"},
		{"no vote for one that raft does not hear", scene(t, 1, "a d59s~", unheard(silentFor)), ""},
		{"a vote for one that raft hears", scene(t, 1, "a d59s~", unheard(silentFor-1)), "promoted d: healthy for 59s"},
		{"no vote for the dead", scene(t, 1, "a d59s!~"), ""},
		{"votes before additions", scene(t, 1, "a d10s~", also(controller("e"))), "promoted d: healthy for 10s"},

		{"a dead non-voter is removed", scene(t, 1, "a d1m!~"), "removed d: gone for 1m0s before it had a vote"},
		{"a dead voter stays", scene(t, 1, "a b c23h59m!"), ""},
		{"and is removed after a day", scene(t, 1, "a b c24h!"), "removed c: dead for 24h0m0s, and 2 voters are left"},
		{"but not below the number expected", scene(t, 3, "a b c1000h!"), ""},
		{"another time to wait", scene(t, 1, "a b c5m!", func(w *world) { w.deadAfter = 5 * time.Minute }), "removed c: dead for 5m0s, and 2 voters are left"},
		{"the longest dead goes first", scene(t, 3, "a b c d48h! e30h!"), "removed d: dead for 48h0m0s, and 4 voters are left"},

		{"replaced", scene(t, 3, "a b c40s! d", promoted("d", time.Second)), "removed c: dead for 40s, and controller nd (d) votes in its place"},
		{"replaced in a cluster founded by one", scene(t, 1, "a b c40s! d", promoted("d", time.Second)), "removed c: dead for 40s, and controller nd (d) votes in its place"},
		{"a vote given before the death replaces nobody", scene(t, 3, "a b c40s! d", promoted("d", 41*time.Second)), ""},
		{"a replacement that died replaces nobody", scene(t, 3, "a b c50s! d40s!", promoted("d", 45*time.Second), func(w *world) { delete(w.memory.promoted, "d") }), ""},
		{"one replacement for two dead", scene(t, 3, "a b f c50s! e40s! d", promoted("d", time.Second)), "removed c: dead for 50s, and controller nd (d) votes in its place"},
		{"replaced, but too few would be left", scene(t, 4, "a b c40s! d", promoted("d", time.Second), func(w *world) { w.expect = 5 }), ""},
		{"removals of the replaced before more votes", scene(t, 3, "a b c40s! d e1m~", promoted("d", time.Second)), "removed c: dead for 40s, and controller nd (d) votes in its place"},

		{"an even number with a dead one", scene(t, 3, "a b d c59s!"), ""},
		{"for a minute", scene(t, 3, "a b d c1m!"), "removed c: dead for 1m0s, and as one of 4 voters it only makes the majority larger"},
		{"an even number that is expected", scene(t, 4, "a b d c1m!"), ""},
		{"an odd number with a dead one", scene(t, 3, "a b d e c1h!"), ""},

		// Gossip may call dead what raft still hears from; that nothing is
		// removed then is what keeps a majority.
		{"no majority would live", scene(t, 1, "a b48h! c48h!"), ""},
		{"no majority would live, of four", scene(t, 1, "a b48h! c48h! d48h!"), ""},
		{"a majority lives without one", scene(t, 1, "a b c d48h! e48h!"), "removed d: dead for 48h0m0s, and 4 voters are left"},
		{"itself never", scene(t, 1, "a48h! b c"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if a, ok := plan(tt.w); ok {
				got = fmt.Sprintf("%s %s: %s", a.verb, a.id, a.reason)
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// Carrying out plans until none is left never leaves fewer voters than expected, or
// a dead majority, whichever controllers are dead or were promoted.
func TestPlanKeepsMajority(t *testing.T) {
	for expect := 1; expect <= 5; expect++ {
		for alive := 1; alive <= 5; alive++ {
			for dead := 0; dead <= 5; dead++ {
				words := "a"
				for i := 1; i < alive; i++ {
					words += " " + string(rune('a'+i))
				}
				for i := range dead {
					words += " " + string(rune('p'+i)) + "48h!"
				}
				w := scene(t, expect, words)
				for id := range w.alive {
					w.memory.promoted[id] = start // all of them may replace somebody
				}
				had := alive > (alive+dead)/2
				for range 20 {
					a, ok := plan(w)
					if !ok {
						break
					}
					if a.verb != remove || a.id < "p" {
						t.Fatalf("%s: %v", words, a)
					}
					delete(w.memory.promoted, a.replaced)
					before := len(w.voters)
					voters := w.voters[:0]
					for _, v := range w.voters {
						if v.ID != a.id {
							voters = append(voters, v)
						}
					}
					w.voters = voters
					if n := len(w.voters); n != before-1 || n < expect || alive <= n/2 {
						t.Fatalf("expected %d, %q: after %v there are %d voters, %d alive", expect, words, a, n, alive)
					}
				}
				if len(w.voters) > max(expect, alive) && had {
					t.Errorf("expected %d, %q: %d voters stay", expect, words, len(w.voters))
				}
			}
		}
	}
}

func TestLook(t *testing.T) {
	m := memory{promoted: map[fleet.ControllerID]time.Time{}}
	voters := []fleet.Voter{{ID: "a", Voting: true}, {ID: "b", Voting: true}, {ID: "d"}}
	all := map[fleet.ControllerID]fleet.Member{"a": controller("a"), "b": controller("b"), "d": controller("d"), "x": controller("x")}
	without := func(id fleet.ControllerID) map[fleet.ControllerID]fleet.Member {
		out := maps.Clone(all)
		delete(out, id)
		return out
	}
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	step := func(s int, alive map[fleet.ControllerID]fleet.Member, wantLost, wantBack string) {
		t.Helper()
		lost, back := m.look(at(s), alive, voters)
		if fmt.Sprint(lost) != wantLost || fmt.Sprint(back) != wantBack {
			t.Errorf("after %d s: lost %v, back %v; want %s and %s", s, lost, back, wantLost, wantBack)
		}
	}
	since := func(id fleet.ControllerID, s int) {
		t.Helper()
		if got := m.seen[id].since; !got.Equal(at(s)) {
			t.Errorf("%s has been so since %s, want %s", id, got, at(s))
		}
	}
	step(0, without("b"), "[b]", "[]") // dead from the beginning: who led before may have been it
	step(3, without("b"), "[]", "[]")
	since("b", 0)
	since("d", 0)
	step(5, all, "[]", "[b]")
	since("b", 5)
	step(6, without("d"), "[d]", "[]")
	step(7, all, "[]", "[d]")
	since("d", 7) // a break: it begins again
	again := maps.Clone(all)
	again["d"] = controller("d", func(m *fleet.Member) { m.Life = "another" })
	m.promoted["b"], m.promoted["d"] = at(1), at(2)
	step(8, again, "[]", "[]")
	since("d", 8) // so does a new life
	since("b", 5)
	if _, known := m.seen["x"]; known {
		t.Error("remembers one that is not in the configuration")
	}
	step(9, without("b"), "[b]", "[]")
	if len(m.promoted) != 1 || m.promoted["d"].IsZero() {
		t.Errorf("promoted: %v; want d alone, since b died", m.promoted)
	}
	voters = voters[:2]
	step(10, all, "[]", "[b]")
	if _, known := m.seen["d"]; known || len(m.promoted) != 0 {
		t.Errorf("remembers one that was removed: %v", m)
	}
}

func TestLiving(t *testing.T) {
	got := living("a", []fleet.Member{
		{Node: "w", Role: fleet.RoleWorker},
		controller("b", named("old"), started(-time.Hour)), controller("b", named("new")), controller("b", named("older"), started(-2*time.Hour)),
		{Node: "x", Role: fleet.RoleController},
	})
	if len(got) != 2 || got["b"].Node != "new" || got["a"].Controller != "a" {
		t.Errorf("got %v", got)
	}
}
