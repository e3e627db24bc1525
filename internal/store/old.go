package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// oldState is the file in which the version before raft kept desired state,
// format 1.
type oldState struct {
	Format        int                                 `json:"format"`
	Cluster       fleet.ClusterID                     `json:"cluster"`
	Epoch         fleet.Epoch                         `json:"epoch"`
	DefaultServer fleet.ServerName                    `json:"default_server"`
	Servers       map[fleet.ServerName]oldServer      `json:"servers"`
	LastRevision  map[fleet.ServerName]fleet.Revision `json:"last_revision"`
	Nodes         []fleet.NodeID                      `json:"nodes"`
}

type oldServer struct {
	Revision fleet.Revision `json:"revision"`
	Spec     fleet.Spec     `json:"spec"`
}

// importOld imports the old file, if there is one and no raft state yet, and renames
// it. After a crash in between both exist, and the file has been imported.
func (d *Dir) importOld() error {
	path := filepath.Join(d.path, oldStateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read old state: %w", err)
	}
	if d.bare {
		st, err := parseOld(data)
		if err != nil {
			return damaged(d.path, path, err)
		}
		if err := d.seed(st, st.Applied, 1, 1); err != nil {
			return fmt.Errorf("import %s: %w", path, err)
		}
	}
	if err := errors.Join(os.Rename(path, path+".imported"), datadir.Sync(d.path)); err != nil {
		return fmt.Errorf("rename old state: %w", err)
	}
	return nil
}

func parseOld(data []byte) (*desired.State, error) {
	var old oldState
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&old); err != nil {
		return nil, err
	}
	if old.Format != 1 || old.Cluster == "" {
		return nil, fmt.Errorf("it has format %d and cluster %q", old.Format, old.Cluster)
	}
	st := &desired.State{
		Format: desired.Format, Cluster: old.Cluster, Expect: 1,
		// Orders of that version had no incarnation, and their epoch grew with each
		// start. Any incarnation is higher.
		Incarnation: 1,
		Applied:     1, Index: 1, Written: 1,
		DefaultServer: old.DefaultServer, LastRevision: old.LastRevision,
		Known:   slices.Sorted(slices.Values(old.Nodes)),
		Servers: make(map[fleet.ServerName]*desired.Server),
	}
	for name, sv := range old.Servers {
		if sv.Revision == 0 || old.LastRevision[name] < sv.Revision {
			return nil, fmt.Errorf("server %q has no known revision", name)
		}
		st.Servers[name] = &desired.Server{
			Spec: sv.Spec, Revision: sv.Revision, Replicas: sv.Spec.Replicas, Written: 1, Index: 1, Stable: sv.Revision,
			Revisions: []desired.Revision{{Number: sv.Revision, Template: sv.Spec.Template, Created: time.Time{}}},
		}
	}
	return st, nil
}
