package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// faultyDisk is a log whose writes can be made to hang or fail.
type faultyDisk struct {
	logStore

	mu   sync.Mutex
	hang chan struct{} // closed when the hang is over; nil: writes go on
	err  error         // of new entries
}

func (d *faultyDisk) wait() error {
	d.mu.Lock()
	hang, err := d.hang, d.err
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

func (d *faultyDisk) StoreLogs(entries []*raft.Log) error {
	if err := d.wait(); err != nil {
		return err
	}
	return d.logStore.StoreLogs(entries)
}

func (d *faultyDisk) Set(key, value []byte) error {
	_ = d.wait()
	return d.logStore.Set(key, value)
}

func (d *faultyDisk) SetUint64(key []byte, value uint64) error {
	_ = d.wait()
	return d.logStore.SetUint64(key, value)
}

// freeze makes all writes hang until thaw.
func (d *faultyDisk) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang == nil {
		d.hang = make(chan struct{})
	}
}

func (d *faultyDisk) thaw() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hang != nil {
		close(d.hang)
		d.hang = nil
	}
}

// refuse makes new entries fail, nil lets them succeed.
func (d *faultyDisk) refuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

// calm makes raft's timeouts, and that of the disk, so long that a busy machine does
// not look like a fault.
func calm(cfg *Config) {
	cfg.DiskTimeout = 2 * time.Second
	cfg.Timeouts = Timeouts{Heartbeat: 2 * time.Second, Election: 2 * time.Second, Lease: time.Second}
}

// calmWrites is calm with another timeout of writes.
func calmWrites(timeout time.Duration) func(*Config) {
	return func(cfg *Config) {
		calm(cfg)
		cfg.WriteTimeout = timeout
	}
}

// faulty makes the disks of a cluster faulty, and returns the disk of each.
func faulty(c *cluster) func(*Store) *faultyDisk {
	var mu sync.Mutex
	disks := make(map[fleet.ControllerID]*faultyDisk)
	c.wrap = func(id fleet.ControllerID) func(logStore) logStore {
		return func(under logStore) logStore {
			mu.Lock()
			defer mu.Unlock()
			disks[id] = &faultyDisk{logStore: under}
			return disks[id]
		}
	}
	c.t.Cleanup(func() { // before the cluster's own
		mu.Lock()
		defer mu.Unlock()
		for _, d := range disks {
			d.thaw()
			d.refuse(nil)
		}
	})
	return func(s *Store) *faultyDisk {
		mu.Lock()
		defer mu.Unlock()
		return disks[s.ID()]
	}
}

// startFaulty starts three controllers with faulty disks, and makes a write.
func startFaulty(c *cluster) (disk func(*Store) *faultyDisk) {
	c.t.Helper()
	disk = faulty(c)
	startThree(c)
	c.must(put("a", "x"))
	c.agree()
	return disk
}

// startFaultyOne starts one controller with a faulty disk.
func startFaultyOne(c *cluster) (s *Store, disk func(*Store) *faultyDisk) {
	c.t.Helper()
	disk = faulty(c)
	s = c.add()
	if err := s.Bootstrap(ids(s)); err != nil {
		c.t.Fatal(err)
	}
	c.leader()
	return s, disk
}

// problemIs returns an error unless a problem has this cause.
func problemIs(problem, cause string) error {
	if !strings.Contains(problem, cause) {
		return fmt.Errorf("the problem is %q, want %q", problem, cause)
	}
	return nil
}

// errorOf returns a problem as an error.
func errorOf(problem string) error {
	if problem == "" {
		return nil
	}
	return errors.New(problem)
}
