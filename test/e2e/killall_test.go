//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// All controllers are killed at once, at random points of 200 writes, with and
// without the workers. Afterwards every acknowledged write is stored, and no
// revision number is used twice.
func TestEverythingKilled(t *testing.T) {
	for _, try := range []struct {
		controllers, rounds int
		bounds              [2]int // of acknowledged writes until a kill
	}{
		{controllers: 3, rounds: 4, bounds: [2]int{20, 70}},
		{controllers: 1, rounds: 4, bounds: [2]int{20, 70}},
	} {
		t.Run(fmt.Sprintf("%d controllers", try.controllers), func(t *testing.T) {
			t.Parallel()
			p := NewPlane(t, try.controllers)
			p.Fleet(`servers: { demo: { command: [%q], replicas: 2, env: { TOKEN: %s } } }`, program("testserver"), p.token)
			p.Start(2)
			before := p.alive("demo")

			const writers, writes = 4, 200
			var books []*book
			for i := range writers {
				books = append(books, newBook(p, fmt.Sprintf("idle-%d", i)))
			}
			workersKilled := false
			for round, total := 0, 0; round < try.rounds || total < writes; round++ {
				total += writeUntil(p, books, try.bounds[0]+rand.IntN(try.bounds[1]-try.bounds[0]), func() {
					var more []*harness.Process
					if round == 1 { // replicas depend on workers, writes do not
						for _, w := range p.Workers {
							more = append(more, w)
						}
						workersKilled = true
					}
					p.KillAll(more...)
				})
				for i := range try.controllers {
					p.comeBack(fmt.Sprintf("c%d", i+1))
				}
				for name, w := range p.Workers {
					if !w.Running() {
						p.StartWorker(name)
					}
				}
				for _, b := range books {
					b.check()
				}
				p.AwaitReady(2)
				if after := p.alive("demo"); !workersKilled && !maps.Equal(before, after) {
					t.Errorf("round %d: replicas and pids were %v and are %v", round, before, after)
				} else if len(after) != 2 {
					t.Errorf("round %d: replicas are %v", round, after)
				}
				if s := p.Server("demo"); s.Revision != 1 {
					t.Errorf("round %d: %+v", round, s)
				}
			}
			for _, b := range books {
				t.Log(b)
			}
		})
	}
}

// comeBack restarts a controller with its data, at the same or at other addresses.
func (p *Plane) comeBack(name string) {
	p.t.Helper()
	if rand.IntN(2) == 0 {
		p.StartNew(name)
		return
	}
	p.Restart(name)
}

// writeUntil lets all writers write, kills once this many writes are
// acknowledged, and returns how many were.
func writeUntil(p *Plane, books []*book, acknowledged int, kill func()) int {
	ctx, stop := context.WithTimeout(p.t.Context(), 2*patience)
	defer stop()
	var done atomic.Int64
	enough := make(chan struct{})
	var group sync.WaitGroup
	for _, b := range books {
		group.Go(func() {
			for ctx.Err() == nil {
				if b.write(ctx) && done.Add(1) == int64(acknowledged) {
					close(enough)
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		p.t.Errorf("%d of %d writes were acknowledged", done.Load(), acknowledged)
	}
	kill() // whatever is in progress
	stop()
	group.Wait()
	return int(done.Load())
}

// book records the writes of one writer to a server with 0 replicas. Every write
// has a new template, and so makes a new revision.
type book struct {
	p      *Plane
	server fleet.ServerName

	value    int
	last     int // the last acknowledged value
	revision fleet.Revision
	exists   bool                      // as of the last acknowledged write
	maybe    map[int]bool              // later values with an unknown outcome; 0 for a deletion
	values   map[fleet.Revision]string // the value that each revision number was ever seen with
	counts   map[string]int            // of outcomes
}

func newBook(p *Plane, server string) *book {
	return &book{p: p, server: fleet.ServerName(server), maybe: map[int]bool{}, values: map[fleet.Revision]string{}, counts: map[string]int{}}
}

func (b *book) String() string {
	return fmt.Sprintf("%s: revision %d, %v", b.server, b.revision, b.counts)
}

// write puts a new template, or sometimes deletes the server. Its revision numbers
// must continue when it comes back.
func (b *book) write(ctx context.Context) (acknowledged bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b.value++
	value := b.value
	var got api.Written
	var err error
	if b.value%10 == 9 && b.exists && len(b.maybe) == 0 {
		value = 0
		_, err = b.p.Delete(ctx, b.server, writeAny)
	} else {
		got, err = b.p.PutServer(ctx, b.server, fmt.Appendf(nil, `{"command": ["none", "%d"], "replicas": 0}`, value), writeAny)
	}
	switch {
	case err == nil:
		b.counts["acknowledged"]++
		b.last, b.exists = value, value != 0
		if value != 0 {
			b.acknowledge(value, got.Revision)
		}
		clear(b.maybe)
		return true
	case errors.Is(err, fleet.ErrNoLeader), ctx.Err() != nil && !errors.Is(err, errKilled) && unsent(err):
		b.counts["refused"]++
	case errors.Is(err, fleet.ErrOutcomeUnknown), errors.Is(err, errKilled), ctx.Err() != nil:
		b.counts["unknown"]++
		b.maybe[value] = true
	default:
		b.p.t.Errorf("write %d of %s: %v", value, b.server, err)
	}
	return false
}

// unsent reports whether no controller could be reached.
func unsent(err error) bool { return errors.Is(err, errNoneReady) }

func (b *book) acknowledge(value int, rev fleet.Revision) {
	if rev <= b.revision {
		b.p.t.Errorf("%s: write %d got revision %d after revision %d", b.server, value, rev, b.revision)
	}
	b.revision = rev
	b.saw(rev, strconv.Itoa(value))
}

// saw fails the test if a number stands for another value than before.
func (b *book) saw(rev fleet.Revision, value string) {
	if before, ok := b.values[rev]; ok && before != value {
		b.p.t.Errorf("%s: revision %d was %s, and is %s", b.server, rev, before, value)
	}
	b.values[rev] = value
}

// check fails the test unless the stored value is the last acknowledged write, or
// a later one with an unknown outcome.
func (b *book) check() {
	t := b.p.t
	t.Helper()
	var found api.Server
	exists := true
	harness.Eventually(t, patience, func() error {
		var err error
		found, err = b.p.GetServer(t.Context(), b.server, readNow)
		if exists = !errors.Is(err, fleet.ErrUnknownServer); !exists {
			return nil
		}
		return err
	})
	value := 0
	if exists {
		value = commandValue(found)
	}
	if value != b.last && !b.maybe[value] {
		t.Errorf("%s: %d is stored, the last acknowledged write is %d, unknown are %v", b.server, value, b.last, b.maybe)
	}
	if exists {
		if found.Revision < b.revision || value == b.last && found.Revision != b.revision {
			t.Errorf("%s: the stored revision is %d, acknowledged was %d", b.server, found.Revision, b.revision)
		}
		list, err := b.p.Revisions(t.Context(), b.server, readNow)
		if err != nil {
			t.Errorf("revisions of %s: %v", b.server, err)
		}
		for _, r := range list.Revisions {
			b.saw(r.Revision, strconv.Itoa(commandValue(api.Server{Spec: r.Spec})))
		}
		b.revision = max(b.revision, found.Revision)
	}
	b.last, b.exists = value, exists
	clear(b.maybe)
}
