package desired

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// randomLog makes the entries of a log from a seed. Nil entries have no command. It
// follows the state, so that about half of all revisions, generations and ETags are
// the present ones.
func randomLog(t *testing.T, seed uint64, n int) [][]byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	var s *State
	server := func() fleet.ServerName { return fleet.ServerName(fmt.Sprint("s", r.IntN(4))) }
	random := func() fleet.Spec {
		s := spec(fmt.Sprint("image", r.IntN(4)), r.IntN(3))
		switch r.IntN(3) {
		case 0:
			s = autoscaled(s.Image, r.IntN(2), 1+r.IntN(4))
		case 1:
			s.Update = &fleet.Update{Canary: &fleet.Canary{Steps: []float64{5, 25}, Gate: fleet.GateManual}}
		}
		s.MaxQueuedRequests = r.IntN(3)
		if r.IntN(3) == 0 {
			s.Env = map[string]string{"TOKEN": []string{"one", "two", fleet.Masked}[r.IntN(3)]}
		}
		return s
	}
	match := func() Match {
		switch r.IntN(8) {
		case 0:
			return Match{ETags: []string{fmt.Sprintf("1.%d", r.IntN(n)), s.ETag()}}
		case 1:
			return Match{ETags: []string{"*"}}
		case 2:
			return Match{New: true}
		}
		return Match{}
	}
	key := func() string {
		if r.IntN(2) == 0 {
			return ""
		}
		return fmt.Sprint("key", r.IntN(n))
	}
	revision := func(name fleet.ServerName) fleet.Revision {
		return fleet.Revision(r.IntN(int(s.LastRevision[name]) + 2))
	}
	// rollout returns a server, and a revision and generation of it that are the
	// present ones half of the time.
	rollout := func() (fleet.ServerName, fleet.Revision, uint64) {
		name := server()
		if sv := s.Servers[name]; sv != nil && r.IntN(2) == 0 {
			return name, sv.Revision, sv.Generation
		}
		return name, revision(name), uint64(r.IntN(4))
	}
	command := func() Command {
		switch r.IntN(34) {
		case 0:
			all := map[fleet.ServerName]fleet.Spec{}
			for range r.IntN(5) {
				all[server()] = random()
			}
			c := PutServers{Servers: all, Match: match()}
			if r.IntN(2) == 0 {
				c.DefaultServer = server()
			}
			if r.IntN(3) > 0 {
				c.Gateways = map[fleet.GatewayName]fleet.Gateway{fleet.GatewayName(fmt.Sprint("g", r.IntN(2))): {Servers: []fleet.ServerName{server()}}}
			}
			return c
		case 1:
			return DeleteServer{Name: server(), Match: match()}
		case 2, 3:
			return Scale{Name: server(), Replicas: r.IntN(5) - 1, Match: match()}
		case 4, 5:
			return Restart{Name: server(), Key: key(), Match: match()}
		case 6, 7, 8:
			name := server()
			return Rollback{Name: name, Revision: revision(name), Key: key(), Match: match()}
		case 9, 10, 11:
			return rolledOut(rollout())
		case 14, 24:
			i := fleet.NodeIntent{Cordoned: r.IntN(2) == 0}
			if r.IntN(3) == 0 {
				i.DrainUntil = noon.Add(time.Duration(r.IntN(3)) * time.Hour)
			}
			return node(fleet.NodeID(fmt.Sprint("n", r.IntN(3))), i)
		case 15:
			name := server()
			return SetCatalogue{Name: name, Revision: revision(name), Catalogue: &fleet.Catalogue{Hash: fmt.Sprint(r.IntN(3))}}
		case 16:
			return SetKnown{Nodes: []fleet.NodeID{fleet.NodeID(fmt.Sprint("n", r.IntN(3))), "n0"}}
		case 17:
			return BeginTenure{Controller: "c", Name: "n", Cluster: "cl", Expect: r.IntN(4)}
		case 25, 26:
			return failed(rollout())
		case 27, 28:
			name, rev, generation := rollout()
			return AdvanceRollout{
				Name: name, Revision: rev, Generation: generation, Checked: r.IntN(2) == 0, Step: r.IntN(3), Held: []string{"", "held"}[r.IntN(2)],
			}
		case 12, 13, 29, 30:
			return SetRollout{Name: server(), Verb: []RolloutVerb{PauseRollout, ResumeRollout}[r.IntN(2)], Match: match()}
		case 31, 33:
			return SetFloor{Name: server(), MinReplicas: r.IntN(4), Until: noon.Add(time.Duration(r.IntN(n)) * time.Second), Match: match()}
		case 32:
			name := server()
			c := SetTarget{Name: name, Replicas: r.IntN(5), Written: uint64(r.IntN(n)), Reason: "load"}
			if sv := s.Servers[name]; sv != nil {
				c.Written = sv.Written
			}
			return c
		default:
			return PutServer{Name: server(), Spec: random(), Match: match(), Retry: r.IntN(3) == 0}
		}
	}
	log := make([][]byte, n)
	for i := range log {
		var c Command
		if i == 0 {
			c = BeginTenure{Controller: "c", Name: "n", Cluster: "cl", Expect: 3}
		} else if r.IntN(30) == 0 {
			s = s.SkipTo(uint64(i + 1))
			continue
		} else {
			c = command()
		}
		b, err := EncodeEntry(Entry{noon.Add(time.Duration(i) * time.Second), c})
		if err != nil {
			t.Fatal(err)
		}
		log[i] = b
		s = apply(t, s, uint64(i+1), b).State
	}
	return log
}

// apply decodes and applies the entry with this index.
func apply(t *testing.T, s *State, index uint64, entry []byte) Result {
	t.Helper()
	if entry == nil {
		return Result{State: s.SkipTo(index)}
	}
	e, err := DecodeEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	return s.Apply(index, index/100, e)
}

func TestRandomHistories(t *testing.T) {
	const entries = 1500
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			log := randomLog(t, seed, entries)
			var s, replayed *State
			published := []*State{nil}
			texts := [][]byte{encoded(t, nil)}
			numbers := map[fleet.ServerName]fleet.Revision{}
			accepted := map[ChangeKind]int{}
			for i, entry := range log {
				index := uint64(i + 1)
				r := apply(t, s, index, entry)
				next := r.State
				text := encoded(t, next)

				// Restored from its snapshot, the state continues as the one that
				// was never restored. By induction that holds for a snapshot at
				// any point and all entries after it.
				restored, err := Decode(texts[i])
				if err != nil {
					t.Fatalf("entry %d: %v", index, err)
				}
				if got := encoded(t, apply(t, restored, index, entry).State); !bytes.Equal(got, text) {
					t.Fatalf("entry %d %s gives another state after a restore:\n%s\n%s", index, entry, text, got)
				}

				if entry != nil {
					checkStep(t, s, r, numbers, entry)
					for _, c := range r.Changes {
						accepted[c.Kind]++
					}
				}
				s = next
				published = append(published, s)
				texts = append(texts, text)
			}
			for i, entry := range log {
				replayed = apply(t, replayed, uint64(i+1), entry).State
			}
			if got := encoded(t, replayed); !bytes.Equal(got, texts[entries]) {
				t.Errorf("the same log gives two states:\n%s\n%s", texts[entries], got)
			}
			for i, old := range published {
				if got := encoded(t, old); !bytes.Equal(got, texts[i]) {
					t.Fatalf("the state after entry %d was changed later:\n%s\n%s", i, texts[i], got)
				}
			}
			for kind := range kinds {
				if accepted[kind] == 0 {
					t.Errorf("no command had the effect %s: the history is too short", kind)
				}
				delete(accepted, kind)
			}
			for kind := range accepted {
				t.Errorf("a change of kind %q is not described in kinds", kind)
			}
		})
	}
}

// checkStep checks the invariants of a step from one state to the next. numbers are
// the highest revisions so far.
func checkStep(t *testing.T, before *State, r Result, numbers map[fleet.ServerName]fleet.Revision, entry []byte) {
	t.Helper()
	if before == nil {
		before = &State{}
	}
	after := r.State
	if r.Err != nil && !bytes.Equal(encoded(t, after), encoded(t, before.SkipTo(r.Index))) {
		t.Fatalf("%s was refused and changed the state: %v", entry, r.Err)
	}
	if len(r.Changes) > 0 && r.Err == nil && after.Index != r.Index && before.Index == after.Index {
		// Only a repeated key has changes of another entry.
		e, _ := DecodeEntry(entry)
		if !repeats(before, e.Command) {
			t.Fatalf("%s has changes, but the state is the same", entry)
		}
	}
	same := before.DefaultServer == after.DefaultServer && len(before.Servers) == len(after.Servers)
	for name, sv := range after.Servers {
		if len(sv.Revisions) > MaxRevisions || sv.Kept(sv.Revision) == nil || sv.Stable != 0 && sv.Kept(sv.Stable) == nil {
			t.Fatalf("%s left server %s with revisions %s, present %d, stable %d", entry, name, sv.numbers(), sv.Revision, sv.Stable)
		}
		if !equalTemplates(&sv.Spec.Template, &sv.Kept(sv.Revision).Template) {
			t.Fatalf("%s left server %s with a template that is not its revision's", entry, name)
		}
		if sv.Failed != nil && (sv.Kept(sv.Failed.Revision) == nil || sv.Failed.Revision == sv.Revision) {
			t.Fatalf("%s left server %s with revisions %s, present %d, failed %d", entry, name, sv.numbers(), sv.Revision, sv.Failed.Revision)
		}
		if sv.Spec.Autoscaling == nil && sv.Floor.MinReplicas != 0 {
			t.Fatalf("%s left server %s, which does not scale by itself, with a floor of %d", entry, name, sv.Floor.MinReplicas)
		}
		newest := sv.Revisions[len(sv.Revisions)-1].Number
		had := before.Servers[name]
		if had == nil && sv.Revision <= numbers[name] {
			t.Fatalf("%s created %s again with revision %d, which was used", entry, name, sv.Revision)
		}
		if newest < numbers[name] && had == nil || newest > numbers[name]+1 {
			t.Fatalf("%s made revision %d of %s after %d", entry, newest, name, numbers[name])
		}
		numbers[name] = max(numbers[name], newest)
		if after.LastRevision[name] != numbers[name] {
			t.Fatalf("%s: last revision of %s is %d, want %d", entry, name, after.LastRevision[name], numbers[name])
		}

		unchanged := had != nil && had.Revision == sv.Revision && len(Diff(&had.Spec, &sv.Spec)) == 0
		if had != nil && unchanged != (had.ETag(1) == sv.ETag(1)) {
			t.Fatalf("%s: server %s unchanged %t, its etag went from %s to %s", entry, name, unchanged, had.ETag(1), sv.ETag(1))
		}
		same = same && unchanged
	}
	if before.Cluster != "" && same != (before.ETag() == after.ETag()) {
		t.Fatalf("%s: set unchanged %t, its etag went from %s to %s", entry, same, before.ETag(), after.ETag())
	}
	if before.Index != after.Index && after.Index != r.Index {
		t.Fatalf("%s: index went from %d to %d", entry, before.Index, after.Index)
	}
	if d := after.Default(); d != "" && after.Servers[d] == nil {
		t.Fatalf("%s: default server %s does not exist", entry, d)
	}
}
