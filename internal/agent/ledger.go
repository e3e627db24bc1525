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
// gives one in this life, and none that is older than the newest ever seen of
// it. Both are on disk before an order is obeyed, or a restarted worker would
// obey a leader that was deposed. A cluster that was put back from a backup has
// its id still, and a higher incarnation: bound nodes go on with it. A new life
// runs nothing of the old cluster's, so it may serve another: what the file
// says of that one is kept only until then.
type ledger struct {
	path string

	// mu is held while the file is written: newer orders have to wait for each
	// other there, and those of the newest seen write nothing.
	mu    sync.Mutex
	seen  fleet.Order
	bound bool // an order was admitted in this life
}

// ledgerFile is the file's content. Before there were incarnations, files had
// none, which is the same as the first one.
type ledgerFile struct {
	Cluster     fleet.ClusterID   `json:"cluster"`
	Incarnation fleet.Incarnation `json:"incarnation"`
	Epoch       fleet.Epoch       `json:"epoch"`
}

func openLedger(path string) (*ledger, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &ledger{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read whose orders this node obeys: %w", err)
	}
	var f ledgerFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read whose orders this node obeys: %s: %w", path, err)
	}
	return &ledger{path: path, seen: fleet.Order(f)}, nil
}

// admit lets an order in that is to be obeyed, and refuses it when a newer one
// was seen.
func (l *ledger) admit(o fleet.Order) error { return l.see(o, true) }

// listen lets one in that asks to hear of us only. It may be older than the
// newest seen: whoever follows a leader can be behind.
func (l *ledger) listen(o fleet.Order) error { return l.see(o, false) }

func (l *ledger) see(o fleet.Order, obey bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case o.Cluster == "":
		return fmt.Errorf("%w: it names none", fleet.ErrForeignCluster)
	case l.bound && o.Cluster != l.seen.Cluster:
		return fmt.Errorf("%w: this node serves %s, the order is from %s; to move the node, restart its worker",
			fleet.ErrForeignCluster, l.seen.Cluster, o.Cluster)
	case o.Cluster == l.seen.Cluster && o.Compare(l.seen) < 0:
		if obey {
			return fmt.Errorf("%w: %s, seen was %s", fleet.ErrStaleEpoch, age(o), age(l.seen))
		}
		l.bound = true
		return nil
	}
	if o != l.seen {
		if err := l.write(o); err != nil {
			return fmt.Errorf("record an order of %s: %w", age(o), err)
		}
	}
	l.seen, l.bound = o, true
	return nil
}

// age is how old an order is, in words.
func age(o fleet.Order) string {
	if o.Incarnation == 0 {
		return fmt.Sprintf("epoch %d", o.Epoch)
	}
	return fmt.Sprintf("incarnation %d, epoch %d", o.Incarnation, o.Epoch)
}

func (l *ledger) cluster() fleet.ClusterID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.Cluster
}

// write replaces the file in one step: a power cut at any point leaves the old
// one or the new one. The new one is begun at a fixed place, so that cuts do
// not litter; the data directory is ours alone.
func (l *ledger) write(o fleet.Order) error {
	b, err := json.Marshal(ledgerFile(o))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(l.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
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
	d, err := os.Open(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
