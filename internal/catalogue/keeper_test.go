package catalogue

import (
	"bytes"
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
	"github.com/mcpfleet/mcpfleet/internal/notice"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// picture is what runs, and desired state, as the test has them.
type picture struct {
	notice.Board
	mu      sync.Mutex
	snap    *observe.Snapshot
	state   *desired.State
	err     error    // of the next Propose
	written []string // server, revision, hash
}

func (p *picture) Snapshot() *observe.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snap
}

func (p *picture) Shape() uint64 { return p.Snapshot().Shape }

func (p *picture) State() *desired.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *picture) Propose(_ context.Context, c desired.Command) (desired.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.err; err != nil {
		p.err = nil
		return desired.Result{}, err
	}
	set := c.(desired.SetCatalogue)
	p.written = append(p.written, fmt.Sprintf("%s %d %s", set.Name, set.Revision, set.Catalogue.Hash))
	res := p.state.Apply(p.state.Applied+1, 1, desired.Entry{Command: c})
	p.state = res.State
	return res, nil
}

func snapshotOf(shape uint64, replicas ...fleet.Replica) *observe.Snapshot {
	s := &observe.Snapshot{Shape: shape, Replicas: map[fleet.ReplicaID]*fleet.Replica{}, Catalogues: map[string]*fleet.Catalogue{
		"h1": {Hash: "h1"}, "h2": {Hash: "h2", Tools: [][]byte{[]byte("{}")}},
		"more":   {Hash: "more", Tools: [][]byte{[]byte("{}")}, Resources: [][]byte{[]byte("{}")}},
		"modern": {Hash: "modern", Era: fleet.EraModern, Versions: []string{"2026-07-28"}},
		"many":   {Hash: "many", Tools: [][]byte{[]byte("{}")}, Resources: [][]byte{make([]byte, maxKept+1)}}, "large": {Hash: "large", Tools: [][]byte{make([]byte, maxKept+1)}},
	}}
	for _, r := range replicas {
		s.Replicas[r.ID] = &r
	}
	return s
}

func TestUnkept(t *testing.T) {
	state := &desired.State{Servers: map[fleet.ServerName]*desired.Server{
		"s": {Revision: 2, Revisions: []desired.Revision{{Number: 1, Catalogue: &fleet.Catalogue{Hash: "h1"}}, {Number: 2}}},
	}}
	for _, tt := range []struct {
		name    string
		replica []fleet.Replica
		want    string
	}{
		{"new", []fleet.Replica{{ID: "r1", Server: "s", Revision: 2, Catalogue: "h1"}}, "s 2 h1"},
		{"kept already", []fleet.Replica{{ID: "r1", Server: "s", Revision: 1, Catalogue: "h1"}}, ""},
		{"changed", []fleet.Replica{{ID: "r1", Server: "s", Revision: 1, Catalogue: "h2"}}, "s 1 h2"},
		{"replicas disagree", []fleet.Replica{
			{ID: "r1", Server: "s", Revision: 2, Catalogue: "h2"}, {ID: "r2", Server: "s", Revision: 2, Catalogue: "h1"},
		}, "s 2 h2"},
		{"not known yet", []fleet.Replica{{ID: "r1", Server: "s", Revision: 2}}, ""},
		{"a revision that is not kept", []fleet.Replica{{ID: "r1", Server: "s", Revision: 9, Catalogue: "h1"}}, ""},
		{"a server that was deleted", []fleet.Replica{{ID: "r1", Server: "gone", Revision: 1, Catalogue: "h1"}}, ""},
	} {
		var got []string
		for _, c := range unkept(state, snapshotOf(1, tt.replica...)) {
			got = append(got, fmt.Sprintf("%s %d %s", c.Name, c.Revision, c.Catalogue.Hash))
		}
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, text, tt.want)
		}
	}
}

// The keeper writes what is new, tries again what was not written, and leaves
// out what is too large.
func TestKeeper(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := &picture{
			snap: snapshotOf(1, fleet.Replica{ID: "r1", Server: "s", Revision: 1, Catalogue: "h1"}), err: errors.New("no majority"),
			state: &desired.State{Servers: map[fleet.ServerName]*desired.Server{"s": {Revision: 1, Revisions: []desired.Revision{{Number: 1}}}}},
		}
		var log bytes.Buffer
		k := &Keeper{Desired: p, Observed: p, Log: slog.New(slog.NewTextHandler(&log, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = k.Run(ctx) })
		show := func(shape uint64, hash string) {
			p.mu.Lock()
			p.snap = snapshotOf(shape, fleet.Replica{ID: "r1", Server: "s", Revision: 1, Catalogue: hash})
			p.mu.Unlock()
			p.Post()
			synctest.Wait()
		}
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			if !slices.Equal(p.written, want) {
				t.Errorf("%s: written %q, want %q", when, p.written, want)
			}
			p.written = nil
		}
		expect("nothing can be written")
		show(2, "h1")
		expect("a change is no reason to try again")
		time.Sleep(keepRetry)
		expect("tried again", "s 1 h1")
		show(3, "large")
		show(4, "large")
		expect("it is too large")
		show(5, "h2")
		expect("changed", "s 1 h2")
		show(6, "more")
		expect("no more than its resources changed")
		time.Sleep(keepPause - time.Second)
		expect("for a moment less than a minute")
		time.Sleep(keepRetry)
		expect("a minute later", "s 1 more")
		show(7, "h1")
		expect("its tools changed again", "s 1 h1")
		show(8, "many")
		expect("too many resources", "s 1 many")
		if kept := p.State().Servers["s"].Catalogue(1); len(kept.Tools) != 1 || kept.Resources != nil {
			t.Errorf("kept %+v, want tools alone", kept)
		}
		p.mu.Lock()
		p.err = fmt.Errorf("upgrade it first: %w", fleet.ErrUnsupported)
		p.mu.Unlock()
		show(9, "modern")
		expect("beside an older controller", "s 1 modern")
		if kept := p.State().Servers["s"].Catalogue(1); kept.Era != "" || kept.Versions != nil {
			t.Errorf("kept %+v, which that one does not understand", kept)
		}
		show(10, "modern")
		expect("once that is gone", "s 1 modern")
		cancel()
		running.Wait()
		for text, want := range map[string]int{"catalogue not kept": 1, "catalogue too large": 2} {
			if n := strings.Count(log.String(), text); n != want {
				t.Errorf("%q was logged %d times, want %d:\n%s", text, n, want, &log)
			}
		}
	})
}

// A server that reports another catalogue every second costs the leader no memory and one
// line in the log.
func TestKeepingForgets(t *testing.T) {
	var log bytes.Buffer
	k := keeping{log: slog.New(slog.NewTextHandler(&log, nil)), tooLarge: map[keptRevision]bool{}, written: map[keptRevision]time.Time{}}
	for i := range 100 {
		c := desired.SetCatalogue{Name: "s", Revision: 1, Catalogue: &fleet.Catalogue{Hash: fmt.Sprint(i), Tools: [][]byte{make([]byte, maxKept+1)}}}
		if less := k.fit(c); less != nil {
			t.Fatalf("kept %d bytes", sizeOf(less))
		}
	}
	if n := strings.Count(log.String(), "too large"); n != 1 || len(k.tooLarge) != 1 {
		t.Errorf("logged %d times, and remembers %d catalogues", n, len(k.tooLarge))
	}
	k.written[keptRevision{"s", 1}], k.written[keptRevision{"s", 2}], k.written[keptRevision{"gone", 1}] = time.Now(), time.Now(), time.Now()
	k.forget(&desired.State{Servers: map[fleet.ServerName]*desired.Server{"s": {Revision: 2, Revisions: []desired.Revision{{Number: 2}}}}})
	if len(k.tooLarge) != 0 || len(k.written) != 1 || k.written[keptRevision{"s", 2}].IsZero() {
		t.Errorf("remembers %v and %v", k.tooLarge, k.written)
	}
}
