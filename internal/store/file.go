package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	stateFile = "state.json"
	lockFile  = "lock"
	format    = 1
)

// state is the file's content.
type state struct {
	Format        int                                 `json:"format"`
	Cluster       fleet.ClusterID                     `json:"cluster"`
	Epoch         fleet.Epoch                         `json:"epoch"`
	DefaultServer fleet.ServerName                    `json:"default_server,omitempty"`
	Servers       map[fleet.ServerName]desired        `json:"servers,omitempty"`
	LastRevision  map[fleet.ServerName]fleet.Revision `json:"last_revision,omitempty"` // deleted servers too
	Nodes         []fleet.NodeID                      `json:"nodes,omitempty"`
}

type desired struct {
	Revision fleet.Revision `json:"revision"`
	Spec     fleet.Spec     `json:"spec"`
}

func readState(path string) (state, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return state{}, fmt.Errorf("read desired state: %w", err)
	}
	var head struct{ Format int }
	if err := json.Unmarshal(data, &head); err != nil {
		return state{}, corrupt(path, err)
	}
	if head.Format > format {
		return state{}, fmt.Errorf("%s has format %d, this version knows up to %d: run a version of mcpfleet at least as new as the one that wrote it",
			path, head.Format, format)
	}
	var st state
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields() // a lost field would be lost for good at the next write
	if err := dec.Decode(&st); err != nil {
		return state{}, corrupt(path, err)
	}
	if err := st.check(); err != nil {
		return state{}, corrupt(path, err)
	}
	return st, nil
}

func corrupt(path string, err error) error {
	return fmt.Errorf("%s is damaged: %w; restore it from a backup, or move it away to begin a new cluster "+
		"(its workers must then be restarted, they obey the old one)", path, err)
}

func (st *state) check() error {
	if st.Format < 1 {
		return errors.New("no format number")
	}
	if st.Cluster == "" || st.Epoch == 0 {
		return errors.New("no cluster id or epoch")
	}
	for name, d := range st.Servers {
		if d.Revision == 0 || st.LastRevision[name] < d.Revision {
			return fmt.Errorf("server %q has no known revision", name)
		}
	}
	return nil
}

// writeState replaces the file by a complete new one: after a crash at any
// point there is the old or the new content, never a mixture.
func writeState(path string, st state) (err error) {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("encode desired state: %w", err)
	}
	tmp := path + ".tmp" // one writer: the directory is locked
	if err := writeFile(tmp, append(data, '\n')); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write desired state: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("replace desired state: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync data directory: %w", err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	os.Remove(path) // a leftover might have a wider mode
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockDir takes the directory for this process. The kernel drops the lock with
// the process, however it ends; the pid in the file is only for the message.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, fmt.Errorf("data directory %s is in use by pid %s: stop that controller or use another --data-dir",
			dir, strings.TrimSpace(string(pid)))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	return f, nil
}
