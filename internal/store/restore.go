package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Restore puts a backup into a directory that has no state: the controller that
// is started with it is a raft of one, which others may join. Its incarnation
// is above any that a worker may have seen, so that workers which served the
// lost cluster obey the new leader, whatever its term is.
func Restore(path string, b *Backup) error {
	d, err := Prepare(path)
	if err != nil {
		return err
	}
	return errors.Join(d.restore(b), d.Close())
}

func (d *Dir) restore(b *Backup) error {
	if !d.bare || d.Cluster() != "" {
		return fmt.Errorf("%s has state already: restore into an empty directory: %w", d.path, fleet.ErrConflict)
	}
	st := *b.State
	st.Incarnation = raised(b.Incarnation, time.Now())
	return d.seed(&st, max(b.Index, st.Applied, 1), max(b.Term, 1))
}

// raised returns the incarnation that follows: seconds since 1970, so that it
// also tops one that the backup does not know of, made after it was taken.
func raised(old fleet.Incarnation, now time.Time) fleet.Incarnation {
	return max(old+1, fleet.Incarnation(now.Unix()))
}

// seed makes the state this directory's raft state, with this controller the
// only voter.
func (d *Dir) seed(st *desired.State, index, term uint64) error {
	disk, err := openDisk(d.path, quiet(), unwatched(), nil)
	if err != nil {
		return err
	}
	err = disk.seed(st, index, term, d.ID())
	if err == nil {
		err = d.setCluster(st.Cluster)
	}
	if err == nil {
		d.stateless, d.bare = false, false
	}
	return errors.Join(err, disk.Close())
}

func (d *disk) seed(st *desired.State, index, term uint64, self fleet.ControllerID) error {
	// The term first: a term without a snapshot is nearly nothing, a snapshot
	// without its term would let new entries have lower terms than old ones.
	if err := d.SetUint64(keyTerm, term); err != nil {
		return fmt.Errorf("write the term: %w", err)
	}
	_, addresses := raft.NewInmemTransport(raft.ServerAddress(self)) // only says how addresses are written
	sink, err := d.snapshots.Create(1, index, term, voting(self), 1, addresses)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return snapshot{st}.Persist(sink)
}
