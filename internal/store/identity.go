package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// identity is a controller's id and cluster.
type identity struct {
	Controller fleet.ControllerID `json:"controller"`
	Cluster    fleet.ClusterID    `json:"cluster,omitempty"` // "" before it belongs to a cluster
}

// Dir is a data directory, locked for this process. Its methods may be called at
// any time.
type Dir struct {
	path      string
	lock      io.Closer
	stateless bool // there was no raft state when it was prepared
	bare      bool // nor anything except perhaps a term
	// incarnation is that of the state in the directory when it was prepared, or 0
	// if there was no state.
	incarnation fleet.Incarnation

	mu sync.Mutex
	id identity
}

// Prepare makes the directory if it does not exist, and locks it. It reads or makes
// the controller's identity, and checks raft's files, so that damage is reported
// before anything starts. It imports the state of the version before raft.
func Prepare(path string) (*Dir, error) {
	if err := makeDir(path); err != nil {
		return nil, err
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, lock: lock}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *Dir) prepare() error {
	if err := d.readIdentity(); err != nil {
		return err
	}
	found, err := inspect(d.path)
	if err != nil {
		return err
	}
	d.stateless, d.bare, d.incarnation = found.empty(), found.bare(), found.incarnation
	if d.ID() == "" && !d.stateless {
		// The log belongs to a member with another id, which would be missing
		// forever. A controller with a new id would have no vote.
		return damaged(d.path, filepath.Join(d.path, identityFile), errors.New("it is missing, but its log is there"))
	}
	if d.ID() == "" {
		if err := d.write(identity{Controller: fleet.NewControllerID()}); err != nil {
			return err
		}
	}
	if cluster := d.Cluster(); cluster != "" && d.bare {
		// The controller has voted and acknowledged entries. With an empty log it
		// could do so again, and contradict itself.
		return damaged(d.path, logPath(d.path), fmt.Errorf("this controller belongs to cluster %s, but the log is empty", cluster))
	}
	return d.importOld()
}

// ID returns the controller's id.
func (d *Dir) ID() fleet.ControllerID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id.Controller
}

// Cluster returns the id of the cluster that the controller belongs to, or "" if it
// belongs to no cluster yet.
func (d *Dir) Cluster() fleet.ClusterID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.id.Cluster
}

// Stateless reports whether there was no raft state when the directory was prepared.
func (d *Dir) Stateless() bool { return d.stateless }

// Close unlocks the directory. It may be called more than once.
func (d *Dir) Close() error {
	if err := d.lock.Close(); err != nil {
		return fmt.Errorf("unlock data directory: %w", err)
	}
	return nil
}

func (d *Dir) setCluster(c fleet.ClusterID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.id.Cluster == c {
		return nil
	}
	id := d.id
	id.Cluster = c
	return d.write(id)
}

// readIdentity leaves the id empty if there is no identity yet.
func (d *Dir) readIdentity() error {
	path := filepath.Join(d.path, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read identity: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d.id); err != nil {
		return damaged(d.path, path, err)
	}
	if d.id.Controller == "" {
		return damaged(d.path, path, errors.New("no controller id"))
	}
	return nil
}

// write writes id to the file, then makes it current. Callers hold mu, or the
// directory is not shared yet.
func (d *Dir) write(id identity) error {
	data, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	if err := datadir.Replace(filepath.Join(d.path, identityFile), append(data, '\n')); err != nil {
		return err
	}
	d.id = id
	return nil
}
