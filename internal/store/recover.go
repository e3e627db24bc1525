package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Recovery is the result of Recover.
type Recovery struct {
	Controller  fleet.ControllerID // the only voter now
	Cluster     fleet.ClusterID
	Incarnation fleet.Incarnation
	Index       uint64 // of the last entry kept
	Servers     int
	Dropped     []fleet.ControllerID // the other members before
}

// Recover makes this controller the only voter, after the majority is lost for good.
// It keeps all entries that this controller has, even if nobody knows whether they
// were accepted. Entries that only the lost controllers had are lost.
//
// Recover raises the incarnation, so that workers do not obey a lost controller that
// returns. It raises raft's term, so that the entries of such controllers are not
// taken for new ones. They must not be started with their old directories.
func Recover(path string) (*Recovery, error) {
	d, err := Prepare(path)
	if err != nil {
		return nil, err
	}
	r, err := d.recover()
	return r, errors.Join(err, d.Close())
}

func (d *Dir) recover() (*Recovery, error) {
	if d.bare {
		return nil, fmt.Errorf("%s has no state to recover", d.path)
	}
	disk, err := openDisk(d.path, quiet(), unwatched(), nil)
	if err != nil {
		return nil, err
	}
	r, err := d.rewrite(disk)
	return r, errors.Join(err, disk.Close())
}

func (d *Dir) rewrite(disk *disk) (*Recovery, error) {
	self := d.ID()
	conf := raftConfig(self, Timeouts{}, quiet())
	_, addresses := raft.NewInmemTransport(raft.ServerAddress(self))
	look := *conf // GetConfiguration changes it
	before, err := raft.GetConfiguration(&look, d.replayer(), disk, disk, disk.snapshots, addresses)
	if err != nil {
		return nil, fmt.Errorf("read raft's configuration: %w", err)
	}
	term, err := disk.GetUint64(keyTerm)
	if err != nil {
		return nil, fmt.Errorf("read the term: %w", err)
	}
	// Write the term first: a raised term without a recovery does little harm.
	if err := disk.SetUint64(keyTerm, raisedTerm(term, time.Now())); err != nil {
		return nil, fmt.Errorf("write the term: %w", err)
	}
	fsm := &recoverer{fsm: d.replayer()}
	if err := raft.RecoverCluster(conf, fsm, disk, disk, disk.snapshots, addresses, voting(self)); err != nil {
		return nil, fmt.Errorf("recover %s: %w", d.path, err)
	}
	st := fsm.kept
	r := &Recovery{Controller: self, Cluster: st.Cluster, Incarnation: st.Incarnation, Index: st.Applied, Servers: len(st.Servers)}
	for _, m := range members(before) {
		if m.ID != self {
			r.Dropped = append(r.Dropped, m.ID)
		}
	}
	return r, nil
}

func (d *Dir) replayer() *fsm { return newFSM(d.Cluster, func(error) {}, func() {}) }

// recoverer replays the log as fsm does, and raises the incarnation in the final
// snapshot.
type recoverer struct {
	*fsm
	kept *desired.State
}

func (r *recoverer) Snapshot() (raft.FSMSnapshot, error) {
	if r.err != nil {
		return nil, r.err
	}
	st := *r.State()
	st.Incarnation = raised(st.Incarnation, time.Now())
	r.kept = &st
	return snapshot{&st}, nil
}
