package store

import (
	"errors"
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

// A disk that is full when raft wants to write its term down ends the store
// with an error, not the process with a panic.
func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	c := newCluster(t)
	c.wrap = func(fleet.ControllerID) func(logStore) logStore {
		return func(under logStore) logStore { return fullDisk{under, &full} }
	}
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
	full.Store(true)
	left := c.followers()
	c.kill(c.leader()) // one of them stands for election
	stopped := make(chan *Store, len(left))
	for _, s := range left {
		go func() {
			select {
			case <-s.broken:
				stopped <- s
			case <-s.shut:
			}
		}()
	}
	select {
	case s := <-stopped:
		if !errors.Is(s.err, errFull) || !contains(s.err, "term") {
			t.Errorf("it failed with %v", s.err)
		}
		if err := has(s.State(), "a", "x"); err != nil {
			t.Errorf("what it knew: %v", err)
		}
	case <-time.After(patience):
		t.Error("nothing failed")
	}
}
