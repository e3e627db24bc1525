package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// stop closes a controller without time to hand leadership over.
func (c *cluster) stop(s *Store) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.closeWithin(ctx, s)
}

// The controllers that were left behind had a leader in the term of the recovered one,
// and stopped. One of them is started again, and the recovered leader calls it before
// it has applied its log. It must stop, and not take the entries of its old leader for
// those of the recovered one.
func TestLeftBehindIsCalledBeforeItHasItsState(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	c.agree()
	stores := append(c.followers(), c.leader()) // in this order they elect nobody
	for _, s := range stores {
		c.stop(s)
	}
	if _, err := Recover(c.dirs[stores[0].ID()]); err != nil {
		t.Fatal(err)
	}
	s := c.restart(stores[0])
	c.must(put("b", "recovered"))

	old, other := c.restart(stores[1]), c.restart(stores[2])
	eventually(t, "a write of those left behind", func() error {
		_, err := old.Propose(t.Context(), put("b", "left behind"))
		if err != nil {
			_, err = other.Propose(t.Context(), put("b", "left behind"))
		}
		return err
	})
	eventually(t, "it is everywhere", func() error {
		return errors.Join(has(old.State(), "b", "left behind"), has(other.State(), "b", "left behind"))
	})
	c.stop(old)
	c.stop(other)
	old = c.restart(old)
	if err := s.AddNonvoter(old.ID()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.broken:
		if !contains(old.err, "recovered without this controller") {
			t.Errorf("it stopped: %v", old.err)
		}
	case <-time.After(patience):
		t.Errorf("it goes on with %+v of incarnation %d, %+v", old.State().Lead, old.State().Incarnation, old.State().Servers["b"])
	}
	// Raft would apply its own entries because the recovered leader has committed
	// others.
	if st := old.State(); st.Applied > 0 {
		t.Errorf("it applied entry %d, b is %+v", st.Applied, st.Servers["b"])
	}
	if err := has(s.State(), "b", "recovered"); err != nil {
		t.Error(err)
	}
}

// After a recovery and after a restore, the term is higher than any that controllers
// which were left behind can reach.
func TestTermIsRaised(t *testing.T) {
	termOf := func(dir string) uint64 {
		t.Helper()
		f, err := inspect(dir)
		if err != nil {
			t.Fatal(err)
		}
		return f.term
	}
	begin := uint64(time.Now().Unix())
	dir := written(t, true)
	before := termOf(dir)
	for range 2 { // the second follows the first within a second
		if _, err := Recover(dir); err != nil {
			t.Fatal(err)
		}
		after := termOf(dir)
		if after <= before || after < begin {
			t.Errorf("Recover: term %d after %d, want at least %d", after, before, begin)
		}
		before = after
	}

	st := (*desired.State)(nil).Apply(1, 1, desired.Entry{Time: time.Now(), Command: desired.BeginTenure{Controller: "c", Cluster: "k", Expect: 1}}).State
	b, err := ReadBackup(bytes.NewReader(backupOf(t, st)))
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "restored")
	if err := Restore(dir, b); err != nil {
		t.Fatal(err)
	}
	if after := termOf(dir); after < begin {
		t.Errorf("Restore: term %d after %d, want at least %d", after, b.Term, begin)
	}
}

// A controller knows its incarnation when it starts, before a leader has said how
// much of its log to apply.
func TestIncarnationAtStart(t *testing.T) {
	plain, snap, recovered := written(t, false), written(t, true), written(t, false)
	r, err := Recover(recovered)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dir  string
		want fleet.Incarnation
	}{
		"nothing":   {t.TempDir(), 0},
		"log":       {plain, 1},
		"snapshot":  {snap, 1},
		"recovered": {recovered, r.Incarnation},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Prepare(tt.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.incarnation != tt.want {
				t.Errorf("incarnation %d, want %d", d.incarnation, tt.want)
			}
		})
	}
}

// The incarnation is checked again for each request on a connection: a controller
// without state may receive one from a third while the connection is open.
func TestIncarnationOfEachRequest(t *testing.T) {
	tests := map[string]struct {
		line          string
		before, after fleet.Incarnation // of the local state
		want          string            // of the error of the second request
		outlived      bool
	}{
		"the same":               {`{"to":"c","cluster":"k","incarnation":7}`, 7, 7, "", false},
		"first state":            {`{"to":"c","cluster":"k","incarnation":7}`, 0, 7, "", false},
		"first state of before":  {`{"to":"c","cluster":"k","incarnation":7}`, 0, 1, "recovered without this controller", true},
		"caller left behind":     {`{"to":"c","cluster":"k","incarnation":1}`, 0, 7, "called one of 7", false},
		"caller had no state":    {`{"to":"c"}`, 0, 7, "called one of 7", false},
		"new in a first cluster": {`{"to":"c"}`, 0, 1, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			own, outlived := tt.before, false
			l := &layer{
				dir: &Dir{id: identity{Controller: "c", Cluster: "k"}}, ready: make(chan struct{}),
				incarnation: func() fleet.Incarnation { return own }, outlived: func(error) { outlived = true },
			}
			close(l.ready)
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				defer far.Close()
				io.WriteString(far, tt.line+"\n")
				io.WriteString(far, "request 1")
				io.WriteString(far, "request 2")
			}()
			c := &conn{Conn: near, layer: l, greet: true}
			one := make([]byte, len("request 1"))
			if _, err := io.ReadFull(c, one); err != nil || string(one) != "request 1" {
				t.Fatalf("first: read %q, %v", one, err)
			}
			own = tt.after
			n, err := io.ReadFull(c, one)
			if tt.want == "" && (err != nil || string(one) != "request 2") || tt.want != "" && (!contains(err, tt.want) || n > 0) {
				t.Errorf("second: read %q, %v; want error %q", one[:n], err, tt.want)
			}
			if outlived != tt.outlived {
				t.Errorf("outlived = %v, want %v", outlived, tt.outlived)
			}
		})
	}
}
