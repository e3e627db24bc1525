package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Restore writes a backup to a directory that has no state. The controller that is
// started with it is a cluster of one, which others may join. Its incarnation is
// higher than any that a worker has seen, so that workers of the lost cluster obey
// the new leader whatever its term is. Raft's term is higher than any that the lost
// cluster may reach if controllers of it return.
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

// raised returns the next incarnation. It is in seconds since 1970, so that it is
// also higher than one that was made after the backup was taken.
func raised(old fleet.Incarnation, now time.Time) fleet.Incarnation {
	return max(old+1, fleet.Incarnation(now.Unix()))
}

// raisedTerm returns the term with which raft continues, in seconds since 1970.
// Controllers that were left behind may elect their own leaders, in the terms after
// the old one. If one had the term of the new leader, raft would take its entries
// for those of the new leader. They do not hold an election every second.
func raisedTerm(old uint64, now time.Time) uint64 {
	return max(old+1, uint64(now.Unix()))
}

// seed makes a state the raft state of this directory, with this controller as the
// only voter. The state is as of an entry of the log and that entry's term at. Raft
// continues after term now.
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
	// Write the term first: a term without a snapshot does little harm. With a
	// snapshot and no term, new entries could have lower terms than old ones.
	if err := d.SetUint64(keyTerm, now); err != nil {
		return fmt.Errorf("write the term: %w", err)
	}
	_, addresses := raft.NewInmemTransport(raft.ServerAddress(self)) // only encodes addresses
	sink, err := d.snapshots.Create(1, index, at, voting(self), 1, addresses)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return snapshot{st}.Persist(sink)
}
