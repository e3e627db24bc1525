package desired

import (
	"bytes"
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

// newHistory returns the log of a founded cluster. Its first entry begins a tenure.
func newHistory(t *testing.T) *history {
	t.Helper()
	h := &history{t: t}
	h.do(BeginTenure{Controller: "c1", Name: "n1", Cluster: "cl", Expect: 3})
	return h
}

// try applies a command after it was encoded and decoded.
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

// spec returns a small spec. Its template differs by image.
func spec(image string, replicas int) fleet.Spec {
	return fleet.Spec{Template: fleet.Template{Image: image}, Replicas: replicas}
}

// autoscaled returns a small spec of a server that scales by itself.
func autoscaled(image string, least, most int) fleet.Spec {
	a := fleet.DefaultAutoscaling()
	a.MinReplicas, a.MaxReplicas = least, most
	return fleet.Spec{Template: fleet.Template{Image: image}, Autoscaling: &a}
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

func failed(name fleet.ServerName, n fleet.Revision, generation uint64) Command {
	return FailRollout{Name: name, Revision: n, Generation: generation, Reason: "it ends"}
}

// node returns the command that gives an ordinary node this intent.
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

// summary shows changes in short.
func summary(changes []Change) string {
	var out []string
	for _, c := range changes {
		s := fmt.Sprintf("%s %s%s", c.Kind, c.Server, c.Node)
		if c.Revision != 0 {
			s += fmt.Sprintf("@%d", c.Revision)
		}
		if c.Reason != "" {
			s += " (" + c.Reason + ")"
		}
		if len(c.Fields) > 0 {
			s += " " + shownDifferences(c.Fields)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func shownDifferences(fields []Difference) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = fmt.Sprintf("%s:%s>%s", f.Field, f.From, f.To)
	}
	return strings.Join(out, " ")
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
			for _, flag := range []struct {
				word string
				is   bool
			}{{" paused", sv.Rollout.Paused}, {" held", sv.Rollout.Held != ""}, {" checked", sv.Rollout.Checked}} {
				if flag.is {
					line += flag.word
				}
			}
			if sv.Rollout.Step > 0 {
				line += fmt.Sprintf(" step %d", sv.Rollout.Step)
			}
		}
		if sv.Failed != nil {
			line += fmt.Sprintf(" failed %d", sv.Failed.Revision)
		}
		out = append(out, line)
	}
	return strings.Join(out, "; ")
}
