// Package store keeps desired state: the cluster's id, the epoch of this
// controller's life, the servers that users asked for with their revisions,
// and the names of the nodes that may be running replicas. It promises that
// what it has accepted survives the loss of the process and the machine (every
// change is fsynced before it is answered), that a revision number never means
// two things, and that only one process at a time uses a directory. What runs
// is not its business: package observe rebuilds that from the workers.
//
// It starts no goroutine; all methods may be called at once.
package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// Store is desired state in one directory.
type Store struct {
	dir   string
	lock  *os.File
	board notice.Board

	mu     sync.Mutex
	state  state // as on disk
	closed bool
}

// Open takes the directory for this process, reads what is there, or begins a
// new cluster, and makes the next epoch durable. An error names the file and
// the way out.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	// The state holds secrets, the directory may have existed before.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("protect data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, lock: lock}
	if err := s.begin(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) begin() error {
	st, err := readState(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		st, err = state{Format: format, Cluster: fleet.NewClusterID()}, nil
	}
	if err != nil {
		return err
	}
	st.Epoch++
	return s.save(st)
}

func (s *Store) path() string { return filepath.Join(s.dir, stateFile) }

// save makes st durable, then current. Callers hold mu or are alone.
func (s *Store) save(st state) error {
	if s.closed {
		return fmt.Errorf("write %s: %w", s.path(), os.ErrClosed)
	}
	if err := writeState(s.path(), st); err != nil {
		return err
	}
	s.state = st
	return nil
}

// Close gives the directory back.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.lock.Close()
}

// Cluster returns the cluster's id, made when the directory was first used.
func (s *Store) Cluster() fleet.ClusterID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Cluster
}

// Epoch returns the epoch of this life: higher than that of any before.
func (s *Store) Epoch() fleet.Epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Epoch
}

// DefaultServer returns the server that the root paths mean: the one set by
// Apply, else the lone server, else "".
func (s *Store) DefaultServer() fleet.ServerName {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.DefaultServer == "" && len(s.state.Servers) == 1 {
		for name := range s.state.Servers {
			return name
		}
	}
	return s.state.DefaultServer
}

// Servers returns what is desired, by name. The specs are shared: do not edit
// them.
func (s *Store) Servers() []fleet.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]fleet.Server, 0, len(s.state.Servers))
	for _, name := range slices.Sorted(maps.Keys(s.state.Servers)) {
		d := s.state.Servers[name]
		out = append(out, fleet.Server{Name: name, Revision: d.Revision, Spec: d.Spec})
	}
	return out
}

// KnownNodes returns the nodes that may be running replicas, as last set.
func (s *Store) KnownNodes() []fleet.NodeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.state.Nodes)
}

// SetKnownNodes remembers the nodes that may be running replicas. A controller
// that starts waits for them before it believes their replicas to be gone.
func (s *Store) SetKnownNodes(nodes []fleet.NodeID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Nodes = slices.Sorted(slices.Values(nodes))
	if slices.Equal(st.Nodes, s.state.Nodes) {
		return nil
	}
	return s.save(st)
}

// Subscribe tells when Servers or DefaultServer may have changed.
func (s *Store) Subscribe() (look <-chan struct{}, cancel func()) { return s.board.Subscribe() }
