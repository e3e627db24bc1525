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
// lost cluster obey the new leader, whatever its term is. Raft's term is above
// any that the lost cluster may reach, should controllers of it come back.
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
	at := max(b.Term, 1)
	return d.seed(&st, max(b.Index, st.Applied, 1), at, raisedTerm(at, time.Now()))
}

// raised returns the incarnation that follows: seconds since 1970, so that it
// also tops one that the backup does not know of, made after it was taken.
func raised(old fleet.Incarnation, now time.Time) fleet.Incarnation {
	return max(old+1, fleet.Incarnation(now.Unix()))
}

// raisedTerm returns the term that raft goes on with: seconds since 1970. Those
// who were left behind elect leaders of their own, in terms that follow the old
// one. In the same term as the leader that was put in their place, raft would
// take their entries for its entries. They do not hold an election every second.
func raisedTerm(old uint64, now time.Time) uint64 {
	return max(old+1, uint64(now.Unix()))
}

// seed makes the state, as of an entry of the log and its term, this directory's
// raft state, with this controller the only voter. Raft goes on after term now.
func (d *Dir) seed(st *desired.State, index, at, now uint64) error {
	disk, err := openDisk(d.path, quiet(), unwatched(), nil)
	if err != nil {
		return err
	}
	err = disk.seed(st, index, at, now, d.ID())
	if err == nil {
		err = d.setCluster(st.Cluster)
	}
	if err == nil {
		d.stateless, d.bare, d.incarnation = false, false, st.Incarnation
	}
	return errors.Join(err, disk.Close())
}

func (d *disk) seed(st *desired.State, index, at, now uint64, self fleet.ControllerID) error {
	// The term first: a term without a snapshot is nearly nothing, a snapshot
	// without its term would let new entries have lower terms than old ones.
	if err := d.SetUint64(keyTerm, now); err != nil {
		return fmt.Errorf("write the term: %w", err)
	}
	_, addresses := raft.NewInmemTransport(raft.ServerAddress(self)) // only says how addresses are written
	sink, err := d.snapshots.Create(1, index, at, voting(self), 1, addresses)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return snapshot{st}.Persist(sink)
}
