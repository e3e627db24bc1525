package store

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// BackupFormat is the format of backup files that this version writes, and the
// newest that it reads.
const BackupFormat = 1

// Backup is desired state in a separate file. It contains secrets.
type Backup struct {
	Format      int
	Cluster     fleet.ClusterID
	Incarnation fleet.Incarnation
	Index       uint64 // of the last entry in it
	Term        uint64
	TakenAt     time.Time
	Version     string // of mcpfleet, that took it
	State       *desired.State
}

// BackupMeta is recorded in a backup beside the state.
type BackupMeta struct {
	TakenAt time.Time
	Version string
}

// backupFile is the JSON form, which is compressed with gzip. SHA256 is computed
// over the same JSON with an empty SHA256.
type backupFile struct {
	Format      int               `json:"mcpfleet_backup"`
	Cluster     fleet.ClusterID   `json:"cluster"`
	Incarnation fleet.Incarnation `json:"incarnation"`
	Index       uint64            `json:"index"`
	Term        uint64            `json:"term"`
	TakenAt     time.Time         `json:"taken_at"`
	Version     string            `json:"version"`
	State       json.RawMessage   `json:"state"`
	SHA256      string            `json:"sha256"`
}

func (f backupFile) sum() (string, error) {
	f.SHA256 = ""
	data, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// WriteBackup writes a state as a backup. The state should come from Read, and a
// file that keeps the backup should have mode 0600.
func WriteBackup(w io.Writer, st *desired.State, meta BackupMeta) error {
	state, err := st.Encode()
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	f := backupFile{
		Format: BackupFormat, Cluster: st.Cluster, Incarnation: st.Incarnation, Index: st.Applied, Term: uint64(st.Lead.Term),
		TakenAt: meta.TakenAt.Round(0).UTC(), Version: meta.Version, State: state,
	}
	if f.SHA256, err = f.sum(); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	z := gzip.NewWriter(w)
	if err := errors.Join(json.NewEncoder(z).Encode(f), z.Close()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// ReadBackup reads a backup and checks all of it.
func ReadBackup(r io.Reader) (*Backup, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("not a backup of mcpfleet: %w", err)
	}
	data, err := io.ReadAll(z) // gzip checks its checksum at the end
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.New("backup is cut off: its end is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("backup is damaged: %w", err)
	}
	var head struct {
		Format int `json:"mcpfleet_backup"`
	}
	if err := json.Unmarshal(data, &head); err != nil || head.Format < 1 {
		return nil, errors.New("not a backup of mcpfleet")
	}
	if head.Format > BackupFormat {
		return nil, fmt.Errorf("backup has format %d, this version knows up to %d: use a version of mcpfleet at least as new as the one that took it",
			head.Format, BackupFormat)
	}
	var f backupFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("backup is damaged: %w", err)
	}
	if sum, err := f.sum(); err != nil || sum != f.SHA256 {
		return nil, errors.New("backup is damaged: its checksum is wrong")
	}
	st, err := desired.Decode(f.State)
	if errors.Is(err, desired.ErrTooNew) {
		return nil, fmt.Errorf("backup: %w: use a version of mcpfleet at least as new as the one that took it (%s)", err, f.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("backup is damaged: %w", err)
	}
	if st.Cluster == "" || st.Cluster != f.Cluster || st.Incarnation != f.Incarnation {
		return nil, errors.New("backup is damaged: its state is of another cluster")
	}
	return &Backup{f.Format, f.Cluster, f.Incarnation, f.Index, f.Term, f.TakenAt, f.Version, st}, nil
}
