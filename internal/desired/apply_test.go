package desired

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// noon is when the commands of the tests were proposed, one second apart.
var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// history applies commands one after the other, as a log would.
type history struct {
	t *testing.T
	s *State
}

// newHistory is the log of a founded cluster: its first entry is a Lead.
func newHistory(t *testing.T) *history {
	t.Helper()
	h := &history{t: t}
	h.do(BeginTenure{Controller: "c1", Name: "n1", Cluster: "cl", Expect: 3})
	return h
}

// try applies a command by way of its encoding.
func (h *history) try(c Command) Result {
	h.t.Helper()
	index := uint64(1)
	if h.s != nil {
		index = h.s.Applied + 1
	}
	b, err := EncodeEntry(Entry{noon.Add(time.Duration(index) * time.Second), c})
	if err != nil {
		h.t.Fatal(err)
	}
	e, err := DecodeEntry(b)
	if err != nil {
		h.t.Fatal(err)
	}
	before := encoded(h.t, h.s)
	r := h.s.Apply(index, 7, e)
	if after := encoded(h.t, h.s); !bytes.Equal(before, after) {
		h.t.Fatalf("entry %d changed the state it was applied to:\n%s\n%s", index, before, after)
	}
	if r.Index != index || r.Term != 7 || r.State.Applied != index {
		h.t.Fatalf("result has index %d, term %d, applied %d; want %d, 7, %d", r.Index, r.Term, r.State.Applied, index, index)
	}
	if r.Err != nil && !bytes.Equal(encoded(h.t, r.State), encoded(h.t, h.s.SkipTo(index))) {
		h.t.Fatalf("a refused command changed the state: %v", r.Err)
	}
	same := bytes.Equal(encoded(h.t, r.State), encoded(h.t, h.s.SkipTo(index)))
	if needed := h.s.NeedsEntry(c); r.Err == nil && needed != (!same || repeats(h.s, c)) {
		h.t.Fatalf("NeedsEntry says %t of entry %d, which leaves the state the same: %t", needed, index, same)
	}
	h.s = r.State
	return r
}

// repeats reports whether a command's idempotency key was used before.
func repeats(s *State, c Command) bool {
	key := ""
	switch c := c.(type) {
	case Restart:
		key = c.Key
	case Rollback:
		key = c.Key
	}
	return s != nil && key != "" && slices.ContainsFunc(s.Keys, func(k Key) bool { return k.Key == key })
}

// do applies commands that must be accepted.
func (h *history) do(commands ...Command) Result {
	h.t.Helper()
	var r Result
	for _, c := range commands {
		if r = h.try(c); r.Err != nil {
			h.t.Fatalf("entry %d refused: %v", r.Index, r.Err)
		}
	}
	return r
}

func encoded(t testing.TB, s *State) []byte {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// spec is a small one; its template differs by image.
func spec(image string, replicas int) fleet.Spec {
	return fleet.Spec{Template: fleet.Template{Image: image}, Replicas: replicas}
}

func put(name fleet.ServerName, s fleet.Spec, etags ...string) Command {
	return PutServer{Name: name, Spec: s, Match: Match{ETags: etags}}
}

func putAll(def fleet.ServerName, servers map[fleet.ServerName]fleet.Spec, etags ...string) Command {
	return PutServers{Servers: servers, DefaultServer: def, Match: Match{ETags: etags}}
}

func del(name fleet.ServerName) Command { return DeleteServer{Name: name} }

func scale(name fleet.ServerName, n int) Command {
	return Scale{Name: name, Replicas: n}
}

func restart(name fleet.ServerName, key string) Command {
	return Restart{Name: name, Key: key}
}

func rollback(name fleet.ServerName, n fleet.Revision, key string) Command {
	return Rollback{Name: name, Revision: n, Key: key}
}

func rolledOut(name fleet.ServerName, n fleet.Revision, generation uint64) Command {
	return EndRollout{Name: name, Revision: n, Generation: generation}
}

// node is the command that brings an ordinary node to what is intended.
func node(name fleet.NodeID, i fleet.NodeIntent) Command {
	c := SetNode{Name: name, Verb: Uncordon, DrainUntil: i.DrainUntil}
	switch {
	case !i.DrainUntil.IsZero():
		c.Verb = Drain
	case i.Cordoned:
		c.Verb = Cordon
	}
	return c
}

// told shows what was done in short.
func told(changes []Change) string {
	var out []string
	for _, c := range changes {
		s := fmt.Sprintf("%s %s%s", c.Kind, c.Server, c.Node)
		if c.Revision != 0 {
			s += fmt.Sprintf("@%d", c.Revision)
		}
		for _, f := range c.Fields {
			s += fmt.Sprintf(" %s:%s>%s", f.Field, f.From, f.To)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// shown shows servers in short: revision, target, generation, ETag, stable
// revision, rollout, kept revisions.
func shown(s *State) string {
	var out []string
	for _, f := range s.List() {
		sv := s.Servers[f.Name]
		var kept []string
		for _, r := range sv.Revisions {
			kept = append(kept, fmt.Sprint(r.Number))
		}
		line := fmt.Sprintf("%s r%d t%d g%d w%d s%d [%s]", f.Name, sv.Revision, sv.Replicas, sv.Generation, sv.Written, sv.Stable, strings.Join(kept, " "))
		if sv.Rollout != nil {
			line += fmt.Sprintf(" %d>%d", sv.Rollout.From, sv.Rollout.To)
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}

// The first command of a case has index 2: entry 1 founds the cluster.
func TestApply(t *testing.T) {
	env := func(value string) fleet.Spec {
		s := spec("a", 1)
		s.Env = map[string]string{"TOKEN": value}
		return s
	}
	queued := spec("a", 1)
	queued.MaxQueuedRequests = 5
	later := noon.Add(time.Hour)

	for _, tc := range []struct {
		name    string
		before  []Command
		command Command
		changes string
		servers string
		def     fleet.ServerName
	}{
		{"a new server", nil, put("x", spec("a", 2)), "created x@1", "x r1 t2 g0 w2 s0 [1] 0>1", "x"},
		{"a new template", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, put("x", spec("b", 1)),
			`updated x@2 image:"a">"b"`, "x r2 t1 g0 w4 s1 [1 2] 1>2", "x"},
		{"a new template in mid-rollout", []Command{put("x", spec("a", 1)), put("x", spec("b", 1))}, put("x", spec("c", 1)),
			`updated x@3 image:"b">"c"`, "x r3 t1 g0 w4 s0 [1 2 3] 0>3", "x"},
		{"a limit", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, put("x", queued),
			"tuned x@1 max_queued_requests:0>5", "x r1 t1 g0 w4 s1 [1]", "x"},
		{"an equal spec", []Command{put("x", spec("a", 1))}, put("x", spec("a", 1)), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"an equal spec after scale", []Command{put("x", spec("a", 1)), scale("x", 5)}, put("x", spec("a", 1)), "", "x r1 t5 g0 w2 s0 [1] 0>1", "x"},
		{"scale", []Command{put("x", spec("a", 1))}, scale("x", 0), "scaled x@1 replicas:1>0", "x r1 t0 g0 w2 s0 [1] 0>1", "x"},
		{"scale to the same", []Command{put("x", spec("a", 3))}, scale("x", 3), "", "x r1 t3 g0 w2 s0 [1] 0>1", "x"},
		{"a template after scale keeps the target", []Command{put("x", spec("a", 1)), scale("x", 5)}, put("x", spec("b", 1)),
			`updated x@2 image:"a">"b"`, "x r2 t5 g0 w4 s0 [1 2] 0>2", "x"},
		{"declared replicas after scale set the target", []Command{put("x", spec("a", 1)), scale("x", 5)}, put("x", spec("a", 2)),
			"tuned x@1 replicas:1>2", "x r1 t2 g0 w4 s0 [1] 0>1", "x"},
		{"restart", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, restart("x", ""), "restarted x@1", "x r1 t1 g1 w2 s1 [1] 1>1", "x"},
		{"rolled out", []Command{put("x", spec("a", 1))}, rolledOut("x", 1, 0), "rolled_out x@1", "x r1 t1 g0 w2 s1 [1]", "x"},
		{"rolled out twice", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, rolledOut("x", 1, 0), "", "x r1 t1 g0 w2 s1 [1]", "x"},
		{"rolled out, but of an older revision", []Command{put("x", spec("a", 1)), put("x", spec("b", 1))}, rolledOut("x", 1, 0), "", "x r2 t1 g0 w3 s0 [1 2] 0>2", "x"},
		{"rolled out, but of an older generation", []Command{put("x", spec("a", 1)), restart("x", "")}, rolledOut("x", 1, 0), "", "x r1 t1 g1 w2 s0 [1] 0>1", "x"},
		{"rolled out, but deleted", []Command{put("x", spec("a", 1)), del("x")}, rolledOut("x", 1, 0), "", "", ""},
		{"rollback to the one before", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0), put("x", spec("b", 1)), rolledOut("x", 2, 0)}, rollback("x", 0, ""),
			`rolled_back x@1 image:"b">"a"`, "x r1 t1 g0 w6 s2 [1 2] 2>1", "x"},
		{"rollback keeps counts and limits", []Command{put("x", spec("a", 1)), put("x", spec("b", 4)), scale("x", 6)}, rollback("x", 1, ""),
			`rolled_back x@1 image:"b">"a"`, "x r1 t6 g0 w5 s0 [1 2] 0>1", "x"},
		{"rollback forward", []Command{put("x", spec("a", 1)), put("x", spec("b", 1)), rollback("x", 1, "")}, rollback("x", 2, ""),
			`rolled_back x@2 image:"a">"b"`, "x r2 t1 g0 w5 s0 [1 2] 0>2", "x"},
		{"rollback to the present one", []Command{put("x", spec("a", 1)), rolledOut("x", 1, 0)}, rollback("x", 1, ""), "", "x r1 t1 g0 w2 s1 [1]", "x"},
		{"rollback to the present one begins its rollout again", []Command{put("x", spec("a", 1))}, rollback("x", 1, ""), "rolled_back x@1", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a template after rollback has a fresh number", []Command{put("x", spec("a", 1)), put("x", spec("b", 1)), rollback("x", 1, "")}, put("x", spec("b", 1)),
			`updated x@3 image:"a">"b"`, "x r3 t1 g0 w5 s0 [1 2 3] 0>3", "x"},
		{"delete", []Command{put("x", spec("a", 1)), put("y", spec("a", 1))}, del("x"), "deleted x@1", "y r1 t1 g0 w3 s0 [1] 0>1", "y"},
		{"a number is not used again after delete", []Command{put("x", spec("a", 1)), restart("x", ""), del("x")}, put("x", spec("a", 1)), "created x@2", "x r2 t1 g0 w5 s0 [2] 0>2", "x"},
		{"delete of the default server", []Command{
			putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1), "y": spec("a", 1), "z": spec("a", 1)})}, del("x"),
			"deleted x@1", "y r1 t1 g0 w2 s0 [1] 0>1; z r1 t1 g0 w2 s0 [1] 0>1", ""},
		{"the whole set", []Command{put("gone", spec("a", 1)), put("same", spec("a", 1)), put("other", spec("a", 1))},
			putAll("same", map[fleet.ServerName]fleet.Spec{"same": spec("a", 1), "other": spec("b", 1), "new": spec("c", 1)}),
			`deleted gone@1; created new@1; updated other@2 image:"a">"b"; default_set same default_server:>"same"`,
			"new r1 t1 g0 w5 s0 [1] 0>1; other r2 t1 g0 w5 s0 [1 2] 0>2; same r1 t1 g0 w3 s0 [1] 0>1", "same"},
		{"an equal set", []Command{putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)})}, putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}),
			"", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"no default any more", []Command{putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1), "y": spec("a", 1)})},
			putAll("", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1), "y": spec("a", 1)}), `default_set  default_server:"x">`,
			"x r1 t1 g0 w2 s0 [1] 0>1; y r1 t1 g0 w2 s0 [1] 0>1", ""},
		{"a masked secret is the stored one", []Command{put("x", env("s3cret"))}, put("x", env(fleet.Masked)), "", "x r1 t1 g0 w2 s0 [1] 0>1", "x"},
		{"a changed secret is not shown", []Command{put("x", env("s3cret"))}, put("x", env("other")), `updated x@2 env.TOKEN:"***">"***"`, "x r2 t1 g0 w3 s0 [1 2] 0>2", "x"},
		{"masked secrets of a set, per server", []Command{put("x", env("one")), put("y", env("two"))},
			putAll("", map[fleet.ServerName]fleet.Spec{"x": env(fleet.Masked), "y": env(fleet.Masked)}), "", "x r1 t1 g0 w2 s0 [1] 0>1; y r1 t1 g0 w3 s0 [1] 0>1", ""},
		{"cordon", nil, node("n", fleet.NodeIntent{Cordoned: true}), "cordoned n", "", ""},
		{"cordon twice", []Command{node("n", fleet.NodeIntent{Cordoned: true})}, node("n", fleet.NodeIntent{Cordoned: true}), "", "", ""},
		{"drain", []Command{node("n", fleet.NodeIntent{Cordoned: true})}, node("n", fleet.NodeIntent{DrainUntil: later}), "draining n", "", ""},
		{"drain with another deadline", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{DrainUntil: later.Add(1)}), "draining n", "", ""},
		{"drain twice", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{Cordoned: true, DrainUntil: later.In(time.FixedZone("", 3600))}), "", "", ""},
		{"cordon of a draining node", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{Cordoned: true}), "", "", ""},
		{"uncordon", []Command{node("n", fleet.NodeIntent{DrainUntil: later})}, node("n", fleet.NodeIntent{}), "uncordoned n", "", ""},
		{"uncordon of an ordinary node", nil, node("n", fleet.NodeIntent{}), "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHistory(t)
			h.do(tc.before...)
			before := h.s.Index
			r := h.do(tc.command)
			if got := told(r.Changes); got != tc.changes {
				t.Errorf("changes\n got %s\nwant %s", got, tc.changes)
			}
			if got := shown(r.State); got != tc.servers {
				t.Errorf("servers\n got %s\nwant %s", got, tc.servers)
			}
			if got := r.State.Default(); got != tc.def {
				t.Errorf("default server is %q, want %q", got, tc.def)
			}
			want := before
			if tc.changes != "" {
				want = r.Index
			}
			if r.State.Index != want {
				t.Errorf("index is %d, want %d", r.State.Index, want)
			}
		})
	}
}

// The spec stays as written; the target says how many are wanted and who asked.
func TestTarget(t *testing.T) {
	h := newHistory(t)
	for _, step := range []struct {
		command Command
		want    fleet.Target
		written int
	}{
		{put("x", spec("a", 2)), fleet.Target{Replicas: 2}, 2},
		{scale("x", 5), fleet.Target{Replicas: 5, By: fleet.ByScale}, 2},
		{put("x", spec("b", 2)), fleet.Target{Replicas: 5, By: fleet.ByScale}, 2},
		{scale("x", 0), fleet.Target{By: fleet.ByScale}, 2},
		{scale("x", 2), fleet.Target{Replicas: 2}, 2},
		{put("x", spec("b", 0)), fleet.Target{}, 0},
		{scale("x", 1), fleet.Target{Replicas: 1, By: fleet.ByScale}, 0},
		{put("x", spec("b", 3)), fleet.Target{Replicas: 3}, 3},
	} {
		h.do(step.command)
		if got := h.s.List()[0]; got.Target != step.want || got.Spec.Replicas != step.written {
			t.Errorf("entry %d: target %+v with %d in the spec, want %+v with %d", h.s.Applied, got.Target, got.Spec.Replicas, step.want, step.written)
		}
	}
}

func TestRefused(t *testing.T) {
	masked := spec("a", 1)
	masked.Env = map[string]string{"PLAIN": "p", "TOKEN": fleet.Masked}
	present := putAll("x", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}) // index 2, ETag 1.2

	for _, tc := range []struct {
		name    string
		command Command
		is      error
		says    string
	}{
		{"delete of nothing", del("y"), fleet.ErrUnknownServer, "y"},
		{"scale of nothing", scale("y", 1), fleet.ErrUnknownServer, "y"},
		{"restart of nothing", restart("y", "k"), fleet.ErrUnknownServer, "y"},
		{"rollback of nothing", rollback("y", 0, ""), fleet.ErrUnknownServer, "y"},
		{"delete of nothing with If-Match", DeleteServer{Name: "y", Match: Match{ETags: []string{"*"}}}, fleet.ErrUnknownServer, "y"},
		{"scale below 0", scale("x", -1), fleet.ErrInvalid, "-1"},
		{"scale too far", scale("x", MaxReplicas+1), fleet.ErrInvalid, "10001"},
		{"replicas below 0", put("y", spec("a", -1)), fleet.ErrInvalid, "replicas"},
		{"too many replicas in a set", putAll("", map[fleet.ServerName]fleet.Spec{"a": spec("a", 1), "y": spec("a", MaxReplicas+1)}), fleet.ErrInvalid, "server y: replicas"},
		{"no name", put("", spec("a", 1)), fleet.ErrInvalid, "name"},
		{"a default that is not there", putAll("y", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}), fleet.ErrInvalid, "default_server"},
		{"a mask over nothing", put("y", masked), fleet.ErrInvalid, "env.TOKEN"},
		{"a mask over nothing of a stored server", put("x", masked), fleet.ErrInvalid, "env.TOKEN"},
		{"a mask over nothing in a set", putAll("", map[fleet.ServerName]fleet.Spec{"a": spec("a", 1), "x": masked}), fleet.ErrInvalid, "server x: env.TOKEN"},
		{"no earlier revision", rollback("x", 0, ""), fleet.ErrUnknownRevision, "there are 1"},
		{"no such revision", rollback("x", 9, ""), fleet.ErrUnknownRevision, "no revision 9; there are 1"},
		{"old ETag", put("x", spec("b", 1), "1.1"), fleet.ErrPrecondition, "1.2"},
		{"ETag of another incarnation", put("x", spec("b", 1), "0.2"), fleet.ErrPrecondition, "1.2"},
		{"If-Match on nothing", put("y", spec("b", 1), "*"), fleet.ErrPrecondition, "does not exist"},
		{"If-Match on nothing, empty", put("y", spec("b", 1), ""), fleet.ErrPrecondition, "does not exist"},
		{"create only", PutServer{Name: "x", Spec: spec("b", 1), Match: Match{New: true}}, fleet.ErrPrecondition, "exists already"},
		{"create the set only", PutServers{Match: Match{New: true}}, fleet.ErrPrecondition, "exists already"},
		{"old ETag of the set", putAll("", nil, "1.0"), fleet.ErrPrecondition, "1.2"},
		{"old ETag at delete", DeleteServer{Name: "x", Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"old ETag at scale", Scale{Name: "x", Replicas: 2, Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"old ETag at restart", Restart{Name: "x", Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"old ETag at rollback", Rollback{Name: "x", Revision: 1, Match: Match{ETags: []string{"1.1"}}}, fleet.ErrPrecondition, "1.2"},
		{"a node without a name", node("", fleet.NodeIntent{Cordoned: true}), fleet.ErrInvalid, "name"},
		{"a drain past all calendars", node("n", fleet.NodeIntent{DrainUntil: noon.AddDate(7969, 0, 0)}), fleet.ErrInvalid, "year"},
		{"a drain without a deadline", SetNode{Name: "n", Verb: Drain}, fleet.ErrInvalid, "deadline"},
		{"a verb that is none", SetNode{Name: "n", Verb: "paint"}, fleet.ErrInvalid, "paint"},
		{"a key too long", restart("x", strings.Repeat("k", 256)), fleet.ErrInvalid, "255"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHistory(t)
			h.do(present)
			r := h.try(tc.command)
			if !errors.Is(r.Err, tc.is) || !strings.Contains(fmt.Sprint(r.Err), tc.says) {
				t.Errorf("got %v; want %v that says %q", r.Err, tc.is, tc.says)
			}
			if r.Changes != nil {
				t.Errorf("a refused command tells of changes: %s", told(r.Changes))
			}
			if !h.s.NeedsEntry(tc.command) {
				t.Error("NeedsEntry says false of a refused command: nobody would learn of the refusal")
			}
		})
	}
}

func TestMatchAccepted(t *testing.T) {
	h := newHistory(t)
	// The set that nobody has written has an ETag, too.
	h.do(putAll("", map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}, "1.0"))
	h.do(put("x", spec("b", 1), "9.9", "1.2"))
	h.do(put("x", spec("c", 1), "*"))
	h.do(scale("x", 4))
	h.do(put("x", spec("d", 1), "1.4")) // scale does not change it
	h.do(putAll("", nil, h.s.ETag()))
	h.do(PutServer{Name: "x", Spec: spec("a", 1), Match: Match{New: true}})
	if got, want := h.s.ETag(), fmt.Sprintf("1.%d", h.s.Applied); got != want {
		t.Errorf("etag of the set is %s, want %s", got, want)
	}
	if got := h.s.Servers["x"].ETag(h.s.Incarnation); got != h.s.ETag() {
		t.Errorf("etag of the server is %s, want %s", got, h.s.ETag())
	}
}

func TestSeedOnlyOnce(t *testing.T) {
	seed := PutServers{Servers: map[fleet.ServerName]fleet.Spec{"x": spec("a", 1)}, Match: Match{New: true}}
	h := newHistory(t)
	h.do(seed, del("x"))
	if r := h.try(seed); !errors.Is(r.Err, fleet.ErrPrecondition) {
		t.Errorf("a set that a user has emptied was seeded again: %v", r.Err)
	}
}

func TestMaskKeepsSecret(t *testing.T) {
	h := newHistory(t)
	first := spec("a", 1)
	first.Env = map[string]string{"TOKEN": "s3cret", "MODE": "x"}
	second := spec("b", 1)
	second.Env = map[string]string{"TOKEN": fleet.Masked, "MODE": "y"}
	h.do(put("x", first))
	r := h.do(put("x", second))
	if got := h.s.Servers["x"].Spec.Env; got["TOKEN"] != "s3cret" || got["MODE"] != "y" {
		t.Errorf("env is %v", got)
	}
	if text := told(r.Changes); strings.Contains(text, "s3cret") || strings.Contains(text, "TOKEN") {
		t.Errorf("changes tell of a secret that stayed: %s", text)
	}
	if second.Env["TOKEN"] != fleet.Masked {
		t.Error("the caller's spec was changed")
	}
}

func TestRevisionsKept(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("0", 1)), put("x", spec("1", 1)), rolledOut("x", 2, 0))
	for i := range 30 {
		h.do(put("x", spec(fmt.Sprint("next", i), 1)))
	}
	sv := h.s.Servers["x"]
	if sv.Revision != 32 || len(sv.Revisions) != MaxRevisions {
		t.Fatalf("revision %d, %d kept; want 32, %d", sv.Revision, len(sv.Revisions), MaxRevisions)
	}
	if got, want := sv.numbers(), "2, 24, 25, 26, 27, 28, 29, 30, 31, 32"; got != want {
		t.Errorf("kept are %s; want %s: the stable one and the newest", got, want)
	}
	list := h.s.List()
	if list[0].Stable != 2 || list[0].StableTemplate == nil || list[0].StableTemplate.Image != "1" {
		t.Errorf("the list does not tell the stable revision: %+v", list[0])
	}
	h.do(rolledOut("x", 32, 0))
	if list := h.s.List(); list[0].Stable != 0 || list[0].StableTemplate != nil {
		t.Errorf("the present revision is told as an older stable one: %+v", list[0])
	}
	if r := h.try(rollback("x", 5, "")); !errors.Is(r.Err, fleet.ErrUnknownRevision) || !strings.Contains(r.Err.Error(), "2, 24, 25") {
		t.Errorf("rollback to a dropped revision: %v", r.Err)
	}
	h.do(put("x", spec("more", 1)))
	if h.s.Servers["x"].Kept(2) != nil {
		t.Error("revision 2 is kept although it is not stable any more")
	}
}

func TestRolloutTimes(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)))
	ro := h.s.Servers["x"].Rollout
	started := noon.Add(2 * time.Second)
	if !ro.Started.Equal(started) || !ro.Deadline.Equal(started.Add(10*time.Minute)) {
		t.Errorf("rollout from %s to %s; want 10 minutes from %s", ro.Started, ro.Deadline, started)
	}
	if got := h.s.Servers["x"].Revisions[0].Created; !got.Equal(started) {
		t.Errorf("revision created at %s, want %s", got, started)
	}
}

func TestLead(t *testing.T) {
	var s *State
	r := s.Apply(1, 3, Entry{Command: BeginTenure{Controller: "c", Name: "n"}})
	if !errors.Is(r.Err, fleet.ErrInvalid) {
		t.Errorf("a cluster without an id was founded: %v", r.Err)
	}
	s = r.State.Apply(2, 4, Entry{Command: BeginTenure{Controller: "c", Name: "n", Cluster: "cl"}}).State
	if s.Cluster != "cl" || s.Incarnation != 1 || s.Expect != 1 || s.Lead != (Lead{"c", "n", 4, 2}) {
		t.Errorf("founded: %+v", s)
	}
	s = s.Apply(3, 4, Entry{Command: put("x", spec("a", 1))}).State
	s = s.Apply(4, 9, Entry{Command: BeginTenure{Controller: "d", Name: "m", Cluster: "other", Expect: 5}}).State
	if s.Cluster != "cl" || s.Incarnation != 1 || s.Expect != 1 || s.Lead != (Lead{"d", "m", 9, 4}) {
		t.Errorf("second tenure: %+v", s)
	}
	if s.Written != 3 || s.Index != 4 {
		t.Errorf("written %d, index %d; want 3, 4", s.Written, s.Index)
	}
	if got, want := s.Order(), (fleet.Order{Cluster: "cl", Incarnation: 1, Epoch: 9}); got != want {
		t.Errorf("order %+v, want %+v", got, want)
	}
}

func TestCatalogue(t *testing.T) {
	set := func(rev fleet.Revision, hash string) Command {
		return SetCatalogue{Name: "x", Revision: rev, Catalogue: &fleet.Catalogue{Hash: hash, Tools: [][]byte{[]byte(`{"name":"t"}`)}}}
	}
	h := newHistory(t)
	h.do(set(1, "h"), put("x", spec("a", 1)), set(1, "h"))
	if c := h.s.Servers["x"].Catalogue(1); c == nil || c.Hash != "h" || string(c.Tools[0]) != `{"name":"t"}` {
		t.Fatalf("catalogue is %+v", c)
	}
	if h.s.Written != 3 || h.s.Servers["x"].Written != 3 {
		t.Error("a catalogue counts as a user's write")
	}
	index := h.s.Index
	h.do(set(1, "h"), set(2, "h"), SetCatalogue{Name: "x", Revision: 1})
	if h.s.Index != index || h.s.Servers["x"].Catalogue(1) == nil || h.s.Servers["x"].Catalogue(2) != nil {
		t.Error("a catalogue that is known, nil, or of no kept revision changed something")
	}
	h.do(put("x", spec("b", 1)), set(2, "i"), rollback("x", 1, ""))
	if c := h.s.Servers["x"].Catalogue(1); c == nil || c.Hash != "h" {
		t.Error("rollback lost the catalogue of the revision")
	}
}

func TestKnown(t *testing.T) {
	h := newHistory(t)
	index := h.s.Index
	h.do(SetKnown{Nodes: []fleet.NodeID{"b", "a", "b"}})
	if !slices.Equal(h.s.Known, []fleet.NodeID{"a", "b"}) {
		t.Errorf("known are %v", h.s.Known)
	}
	if h.s.NeedsEntry(SetKnown{Nodes: []fleet.NodeID{"a", "b"}}) {
		t.Error("the same list in another order would change something")
	}
	h.do(SetKnown{})
	if h.s.Known != nil || h.s.Index != index {
		t.Errorf("known are %v, index went from %d to %d", h.s.Known, index, h.s.Index)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)), put("x", spec("b", 1)), rolledOut("x", 2, 0))

	first := h.do(restart("x", "k1"))
	again := h.do(restart("x", "k1"))
	if h.s.Servers["x"].Generation != 1 {
		t.Errorf("restarted %d times under one key", h.s.Servers["x"].Generation)
	}
	if first.Repeated || !again.Repeated {
		t.Errorf("repeated: the first %v, the second %v", first.Repeated, again.Repeated)
	}
	if told(again.Changes) != told(first.Changes) || told(again.Changes) != "restarted x@2" {
		t.Errorf("the repeated request was told %q, the first %q", told(again.Changes), told(first.Changes))
	}
	if !h.s.NeedsEntry(restart("x", "k1")) {
		t.Error("a repeated request would not reach the log, and not be told what it did")
	}

	back := h.do(rollback("x", 0, "k2"))
	again = h.do(rollback("x", 0, "k2")) // without the key it would find no earlier one
	if told(again.Changes) != told(back.Changes) || h.s.Servers["x"].Revision != 1 {
		t.Errorf("told %q and %q, revision %d", told(back.Changes), told(again.Changes), h.s.Servers["x"].Revision)
	}
	for name, other := range map[string]Command{
		"other revision": rollback("x", 2, "k2"), "other verb": restart("x", "k2"), "other server": rollback("y", 0, "k2"),
	} {
		if r := h.try(other); !errors.Is(r.Err, fleet.ErrConflict) {
			t.Errorf("%s under a used key: %v", name, r.Err)
		}
	}

	// There is nothing to do, and there shall be nothing to do at the repetition.
	h.do(rolledOut("x", 1, 1))
	index := h.s.Index
	if r := h.do(rollback("x", 1, "k3")); r.Changes != nil || r.State.Index != index {
		t.Errorf("rollback to the present revision: %s, index %d", told(r.Changes), r.State.Index)
	}
	h.do(put("x", spec("c", 1)), rollback("x", 1, "k3"))
	if got := h.s.Servers["x"].Revision; got != 3 {
		t.Errorf("a repeated request rolled back to %d", got)
	}

	// A refused request may be tried again under its key.
	h.try(restart("y", "k4"))
	h.do(put("y", spec("a", 1)), restart("y", "k4"))
	if h.s.Servers["y"].Generation != 1 {
		t.Error("the key of a refused request was kept")
	}
	// An answer outlives its server.
	h.do(del("y"))
	if r := h.do(restart("y", "k4")); told(r.Changes) != "restarted y@1" {
		t.Errorf("told %q", told(r.Changes))
	}
}

func TestIdempotencyKeysAreBounded(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)))
	for i := range MaxKeys + 2 {
		c := restart("x", fmt.Sprint("k", i))
		h.s = h.s.Apply(h.s.Applied+1, 7, Entry{Command: c}).State
	}
	if len(h.s.Keys) != MaxKeys || h.s.Keys[0].Key != "k2" || h.s.Keys[MaxKeys-1].Key != fmt.Sprint("k", MaxKeys+1) {
		t.Fatalf("%d keys, from %s", len(h.s.Keys), h.s.Keys[0].Key)
	}
	generation := h.s.Servers["x"].Generation
	h.do(restart("x", "k2"), restart("x", "k0")) // kept, forgotten
	if got := h.s.Servers["x"].Generation; got != generation+1 {
		t.Errorf("generation went from %d to %d, want one more", generation, got)
	}
}

func TestReplayDoesNothing(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)), scale("x", 3))
	for index := range h.s.Applied + 1 {
		r := h.s.Apply(index, 9, Entry{Command: restart("x", "")})
		if r.State != h.s || r.Err != nil || r.Changes != nil {
			t.Errorf("entry %d applied again: %s, %v", index, told(r.Changes), r.Err)
		}
		if h.s.SkipTo(index) != h.s {
			t.Errorf("entry %d skipped again", index)
		}
	}
	next := h.s.SkipTo(10)
	if next.Applied != 10 || next.Index != h.s.Index || h.s.Applied != 3 {
		t.Errorf("skipped to 10: applied %d, index %d; the old state: applied %d", next.Applied, next.Index, h.s.Applied)
	}
}

// A dry run and the log may go on from one state in two ways, at once.
func TestTwoFuturesOfOneState(t *testing.T) {
	h := newHistory(t)
	h.do(put("x", spec("a", 1)))
	for range 8 {
		index := h.s.Applied + 1
		for _, pair := range [][2]Command{
			{put("x", spec(fmt.Sprint("this", index), 1)), put("x", spec("that", 1))},
			{restart("x", fmt.Sprint("this", index)), restart("x", "that")},
			{node("this", fleet.NodeIntent{Cordoned: true}), node("that", fleet.NodeIntent{Cordoned: true})},
		} {
			one := h.s.Apply(index, 7, Entry{Command: pair[0]}).State
			text := encoded(t, one)
			other := h.s.Apply(index, 7, Entry{Command: pair[1]}).State
			if !bytes.Equal(encoded(t, one), text) {
				t.Fatalf("one future disturbed the other:\n%s\n%s\n%s", text, encoded(t, one), encoded(t, other))
			}
		}
		h.do(put("x", spec(fmt.Sprint(index), 1)), restart("x", fmt.Sprint("k", index)))
	}
}

func TestEmptyState(t *testing.T) {
	var none *State
	if none.List() != nil || none.Default() != "" || none.ETag() != "0.0" || none.Order() != (fleet.Order{}) {
		t.Error("the nil state is not empty")
	}
	if !bytes.Equal(encoded(t, none), encoded(t, &State{})) {
		t.Error("the nil state and the zero one differ")
	}
	if s := none.SkipTo(4); s.Applied != 4 {
		t.Errorf("applied %d", s.Applied)
	}
	if !none.NeedsEntry(put("x", spec("a", 1))) {
		t.Error("a first server would change nothing")
	}
}

// Two operators at once: whatever the order, none undoes the other's word.
func TestNodeVerbsRace(t *testing.T) {
	drain := node("n", fleet.NodeIntent{DrainUntil: noon.Add(time.Hour)})
	cordon := node("n", fleet.NodeIntent{Cordoned: true})
	for _, order := range [][]Command{{drain, cordon}, {cordon, drain}} {
		h := newHistory(t)
		h.do(order...)
		if got := h.s.Nodes["n"]; !got.Cordoned || !got.DrainUntil.Equal(noon.Add(time.Hour)) {
			t.Errorf("after both the node is intended to be %+v", got)
		}
	}
}
