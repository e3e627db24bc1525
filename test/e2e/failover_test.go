//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// The leader is killed every five seconds, under calls and writes. Calls through
// living controllers succeed, no replica restarts, every acknowledged write is
// stored, and a new leader is elected soon.
func TestLeaderKilledAgainAndAgain(t *testing.T) {
	const period, away = 5 * time.Second, 2 * time.Second
	during := time.Minute
	if testing.Short() {
		during = 3 * period
	}
	p := NewPlane(t, 3)
	journal := filepath.Join(p.dir, "journal")
	demo := func(value int) string {
		return fmt.Sprintf(`{"command": [%q, "-journal", %q], "replicas": 6, "env": {"TOKEN": %q}, "max_queued_requests": %d}`,
			program("testserver"), journal, p.token, 1000+value)
	}
	idle := func(value int) string {
		return fmt.Sprintf(`{"command": ["none"], "replicas": 0, "max_queued_requests": %d}`, 1000+value)
	}
	p.Fleet(`servers: { demo: %s, idle: %s }`, demo(0), idle(0))
	p.Start(3)
	before := p.alive("demo")
	if len(before) != 6 {
		t.Fatalf("replicas: %v", before)
	}
	lives := map[string]int{}

	traffic := p.steadyCalls(200)
	writers := []*writer{p.newWriter("demo", demo), p.newWriter("idle", idle)}
	writing, stopWriting := context.WithCancel(t.Context())
	defer stopWriting()
	var group sync.WaitGroup
	for _, w := range writers {
		group.Go(func() { w.run(writing, 200*time.Millisecond) })
	}

	var elections []time.Duration
	next := time.NewTicker(period)
	defer next.Stop()
	for begin := time.Now(); time.Since(begin) < during; {
		<-next.C
		leader := p.Leader()
		term, err := leader.term(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		killed := p.Kill(leader.name)
		lives[leader.name]++
		took := p.awaitSuccessor(term, killed)
		elections = append(elections, took)
		back := time.NewTimer(away - time.Since(killed))
		<-back.C
		p.Restart(leader.name)
	}
	stopWriting()
	group.Wait()
	traffic.stop()

	sorted := slices.Sorted(slices.Values(elections))
	t.Logf("%d leaders killed (%v); a new one came after %v; median %s", len(elections), lives, elections, median(sorted))
	if slow := sorted[len(sorted)-1]; slow > 5*time.Second || median(sorted) > 2*time.Second {
		t.Errorf("a new leader took up to %s, the median is %s", slow, median(sorted))
	}
	if len(elections) < int(during/period)-2 || len(lives) < 2 {
		t.Errorf("in %s only %d leaders were killed: %v", during, len(elections), lives)
	}

	t.Logf("calls: %s", traffic)
	for _, err := range traffic.failed {
		t.Errorf("a call through a living controller: %v", err)
	}
	if traffic.good < 20*int(during/time.Second) {
		t.Errorf("only %d calls succeeded", traffic.good)
	}
	traffic.check(t, journal)

	for _, w := range writers {
		t.Logf("writes of %s: %s", w.server, w)
		w.check(t)
		if w.acknowledged < int(during/time.Second) {
			t.Errorf("only %d writes of %s were acknowledged", w.acknowledged, w.server)
		}
	}

	p.AwaitVoters("c1", "c2", "c3")
	p.AwaitReady(3)
	if after := p.alive("demo"); !maps.Equal(before, after) {
		t.Errorf("replicas and pids were %v and are %v", before, after)
	}
	if s := p.Server("demo"); s.Restarts != 0 || s.Revision != 1 || len(s.LastEnded) != 0 {
		t.Errorf("the server afterwards: %+v", s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.wrong) > 0 {
		t.Errorf("controllers that lived and were not ready any more:\n%s", strings.Join(p.wrong, "\n"))
	}
}

// awaitSuccessor waits for a leader of a later term, and returns how long after
// the kill it was seen.
func (p *Plane) awaitSuccessor(term fleet.Epoch, killed time.Time) time.Duration {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := p.leads(term)
		took := time.Since(killed)
		if err == nil {
			return took.Round(time.Millisecond)
		}
		if took > patience {
			p.t.Fatalf("no new leader after %s: %v", took, err)
		}
		<-tick.C
	}
}

// writer writes one server's spec repeatedly, each time with a new value, and
// reads it back through any controller.
type writer struct {
	p      *Plane
	server fleet.ServerName
	spec   func(value int) string

	value        int
	last         int          // the last value that was acknowledged
	unknown      map[int]bool // what may have been written
	acknowledged int
	refused      int // failed for lack of a leader, so certainly not written
	unread       int // reads that failed for lack of a leader
	wrong        []error
}

func (p *Plane) newWriter(server string, spec func(int) string) *writer {
	return &writer{p: p, server: fleet.ServerName(server), spec: spec, unknown: map[int]bool{}}
}

func (w *writer) String() string {
	return fmt.Sprintf("%d tried, %d acknowledged, %d refused for want of a leader, %d of unknown outcome; %d reads found no leader",
		w.value, w.acknowledged, w.refused, len(w.unknown), w.unread)
}

// run writes at this interval until ctx ends.
func (w *writer) run(ctx context.Context, pace time.Duration) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		w.write()
		w.read()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *writer) write() {
	ctx, cancel := context.WithTimeout(w.p.t.Context(), patience)
	defer cancel()
	w.value++
	_, err := w.p.PutServer(ctx, w.server, []byte(w.spec(w.value)), writeAny)
	switch {
	case err == nil:
		w.acknowledged++
		w.last = w.value
	case errors.Is(err, fleet.ErrNoLeader):
		w.refused++
	case errors.Is(err, fleet.ErrOutcomeUnknown), errors.Is(err, errKilled):
		w.unknown[w.value] = true
	default:
		w.wrong = append(w.wrong, fmt.Errorf("write %d: %w", w.value, err))
	}
}

// read expects the last acknowledged value, or a later one with an unknown
// outcome. There is no other writer.
func (w *writer) read() {
	ctx, cancel := context.WithTimeout(w.p.t.Context(), patience)
	defer cancel()
	got, err := w.p.GetServer(ctx, w.server, readNow)
	switch {
	case errors.Is(err, fleet.ErrNoLeader), errors.Is(err, errKilled):
		w.unread++
		return
	case err != nil:
		w.wrong = append(w.wrong, fmt.Errorf("read after write %d: %w", w.value, err))
		return
	}
	if value := queued(got) - 1000; value != w.last && (value < w.last || !w.unknown[value]) {
		w.wrong = append(w.wrong, fmt.Errorf("read %d, but %d was acknowledged before, and unknown is only %v", value, w.last, w.unknown))
	}
}

// check reads once more, and fails the test if anything was wrong.
func (w *writer) check(t testing.TB) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		before := w.unread
		if w.read(); w.unread != before {
			return errors.New("there is no leader to read from")
		}
		return nil
	})
	if err := errors.Join(w.wrong...); err != nil {
		t.Errorf("writes of %s: %v", w.server, err)
	}
}
