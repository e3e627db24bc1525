package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ledger knows whose orders the node obeys: those of the first cluster that
// gives one in this life, and of no epoch lower than the highest that was ever
// seen of it. Both are on disk before an order is obeyed, or a restarted worker
// would obey a leader that was deposed. A new life runs nothing of the old
// cluster's, so it may serve another: what the file says of that one is kept
// only until then.
type ledger struct {
	path string

	// mu is held while the file is written: orders of a new epoch have to wait
	// for each other there, and those of a known epoch write nothing.
	mu    sync.Mutex
	seen  ledgerState
	bound bool // an order was admitted in this life
}

type ledgerState struct {
	Cluster fleet.ClusterID `json:"cluster"`
	Epoch   fleet.Epoch     `json:"epoch"`
}

func openLedger(path string) (*ledger, error) {
	l := &ledger{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which cluster this node belongs to: %w", err)
	}
	if err := json.Unmarshal(b, &l.seen); err != nil {
		return nil, fmt.Errorf("read which cluster this node belongs to: %s: %w", path, err)
	}
	return l, nil
}

func (l *ledger) admit(o fleet.Order) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case o.Cluster == "":
		return fmt.Errorf("%w: it names none", fleet.ErrForeignCluster)
	case l.bound && o.Cluster != l.seen.Cluster:
		return fmt.Errorf("%w: this node serves %s, the order is from %s; to move the node, restart its worker",
			fleet.ErrForeignCluster, l.seen.Cluster, o.Cluster)
	case o.Cluster == l.seen.Cluster && o.Epoch < l.seen.Epoch:
		return fmt.Errorf("%w: %d, seen was %d", fleet.ErrStaleEpoch, o.Epoch, l.seen.Epoch)
	}
	next := ledgerState{o.Cluster, o.Epoch}
	if next != l.seen {
		if err := l.write(next); err != nil {
			return fmt.Errorf("record epoch %d: %w", o.Epoch, err)
		}
	}
	l.seen, l.bound = next, true
	return nil
}

func (l *ledger) cluster() fleet.ClusterID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.Cluster
}

func (l *ledger) write(s ledgerState) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	dir := filepath.Dir(l.path)
	f, err := os.CreateTemp(dir, filepath.Base(l.path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), l.path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
