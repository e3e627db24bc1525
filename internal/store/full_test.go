package store

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var errFull = errors.New("no space left")

// fullDisk takes no term once it is full.
type fullDisk struct {
	logStore
	full *atomic.Bool
}

func (f fullDisk) SetUint64(key []byte, value uint64) error {
	if f.full.Load() {
		return errFull
	}
	return f.logStore.SetUint64(key, value)
}

// A disk that is full when raft wants to write its term down neither ends the
// process with a panic nor the store: it says what is wrong, and goes on when
// there is room.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	c := newCluster(t)
	c.tune = func(cfg *Config) { cfg.DiskTimeout = time.Second }
	c.wrap = func(fleet.ControllerID) func(logStore) logStore {
		return func(under logStore) logStore { return fullDisk{under, &full} }
	}
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
	full.Store(true)
	left := c.followers()
	c.kill(c.leader()) // one of them stands for election
	eventually(t, "the cause", func() error {
		for _, s := range left {
			if p := s.Problem(); contains(errors.New(p), errFull.Error()) && contains(errors.New(p), "term") {
				return nil
			}
		}
		return fmt.Errorf("their problems are %q and %q", left[0].Problem(), left[1].Problem())
	})
	for _, s := range left {
		if err := has(s.State(), "a", "x"); err != nil {
			t.Errorf("what it knew: %v", err)
		}
		if _, err := s.Propose(t.Context(), put("a", "y")); !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("a write: %v, want ErrNotLeader", err)
		}
	}
	full.Store(false)
	c.must(put("a", "z"))
	c.agree()
	for _, s := range left {
		eventually(t, "no problem", func() error { return errorOf(s.Problem()) })
	}
}
