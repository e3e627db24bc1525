package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
)

// keepSnapshots is how many snapshots are kept: the newest, and the one before it
// while the newest is being written.
const keepSnapshots = 2

// keyTerm is raft's key of the current term in its stable store.
var keyTerm = []byte("CurrentTerm")

// disk has raft's open files.
type disk struct {
	watchedLog // raft's log, term and vote
	bolt       *raftboltdb.BoltStore
	snapshots  *snapshots
}

func logPath(dir string) string      { return filepath.Join(dir, raftDir, logFile) }
func snapshotPath(dir string) string { return filepath.Join(dir, raftDir, snapshotsDir) }

// openDisk opens raft's files. watch times the writes. wrap, if not nil, replaces
// the log below watch.
func openDisk(dir string, log *hclogger, watch *diskWatch, wrap func(logStore) logStore) (*disk, error) {
	base := filepath.Join(dir, raftDir)
	if err := makeDir(base); err != nil {
		return nil, err
	}
	if err := removeUnfinished(snapshotPath(dir)); err != nil {
		return nil, err
	}
	files, err := raft.NewFileSnapshotStoreWithLogger(base, keepSnapshots, log)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", snapshotPath(dir), err)
	}
	if err := os.Chmod(snapshotPath(dir), 0o700); err != nil {
		return nil, fmt.Errorf("protect directory: %w", err)
	}
	bolt, err := openBolt(logPath(dir))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(datadir.Sync(base), datadir.Sync(dir)); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	var under logStore = sealed{bolt}
	if wrap != nil {
		under = wrap(under)
	}
	return &disk{
		watchedLog: watchedLog{under, watch}, bolt: bolt,
		snapshots: &snapshots{FileSnapshotStore: files, dir: snapshotPath(dir), taken: snapshotCounter()},
	}, nil
}

// removeUnfinished removes snapshots that a crash left unfinished. Raft never
// removes them.
func removeUnfinished(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("remove unfinished snapshots: %w", err)
	}
	return nil
}

// openBolt opens the log. This process has locked the directory. Only an operator's
// tool can have bbolt's own lock, and waiting for that must end.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, NoSync: false, BoltOptions: &bbolt.Options{Timeout: 2 * time.Second}})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return bolt, nil
}

// patientTerm is raft's store for its term and vote. Raft panics if it cannot write
// the term, for example on a full disk, which would end the process and its calls.
// With patientTerm raft waits until the term can be written.
type patientTerm struct {
	*disk
	flight *flight
}

// SetUint64 implements raft.StableStore. If the store is closed while it waits, raft
// continues as if the term had been written. It could only vote in a term that it
// will have forgotten, and the vote is written to the same disk first.
func (p patientTerm) SetUint64(key []byte, value uint64) error {
	err := p.disk.SetUint64(key, value)
	if err == nil || string(key) != string(keyTerm) {
		return err
	}
	return p.watch.do(opRetry, func() error {
		for wait := minTermRetry; ; wait = min(2*wait, maxTermRetry) {
			select {
			case <-time.After(wait):
			case <-p.flight.shut:
				return nil
			}
			if p.disk.SetUint64(key, value) == nil { // watch records the error
				return nil
			}
		}
	})
}

const (
	minTermRetry = 100 * time.Millisecond
	maxTermRetry = time.Second
)

func (d *disk) Close() error {
	if err := d.bolt.Close(); err != nil {
		return fmt.Errorf("close raft's log: %w", err)
	}
	return nil
}

// snapshots is raft's snapshot store with files that only their owner can read.
type snapshots struct {
	*raft.FileSnapshotStore
	dir   string
	taken prometheus.Counter
}

func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(v, index, term, c, at, t)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, sink.ID()+".tmp")
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "meta.json"): 0o600, filepath.Join(dir, "state.bin"): 0o600} {
		if err := os.Chmod(path, mode); err != nil {
			return nil, errors.Join(fmt.Errorf("protect snapshot: %w", err), sink.Cancel())
		}
	}
	return &countedSink{sink, s.taken}, nil
}

type countedSink struct {
	raft.SnapshotSink
	taken prometheus.Counter
}

func (c *countedSink) Close() error {
	err := c.SnapshotSink.Close()
	if err == nil {
		c.taken.Inc()
	}
	return err
}
