package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// damaged returns the error of a file that cannot be used, with what to do.
func damaged(dir, path string, err error) error {
	return fmt.Errorf("%s is damaged: %w; if other controllers of the cluster live, move %s away and start this controller again, it rejoins them empty; "+
		"if it was the only one, move it away and restore a backup (mcpfleet restore); see docs/OPERATIONS.md", path, err, dir)
}

// found describes raft's files in a directory.
type found struct {
	term        uint64
	first, last uint64            // entries of the log; 0: it is empty
	snapshot    uint64            // index of the newest one; 0: there is none
	at          uint64            // its term
	incarnation fleet.Incarnation // of the state once the log is replayed; 0: it belongs to no cluster yet
}

// empty reports whether raft never did anything here. bare reports whether there is
// nothing except perhaps a term, as after a vote or a crash in the middle of seed.
func (f found) empty() bool { return f == found{} }
func (f found) bare() bool  { return f.last == 0 && f.snapshot == 0 }

// inspect reads everything that raft will read, and returns an error if any of it
// is damaged. Raft and bbolt would find out later, if at all. Bbolt maps the file
// and a bad page ends the process, by a panic or by SIGBUS past the end of the file.
// Raft skips a snapshot that it cannot read, and continues without it.
func inspect(dir string) (found, error) {
	f, err := inspectSnapshots(dir)
	if err != nil {
		return found{}, err
	}
	path := logPath(dir)
	if err := checkPages(path); errors.Is(err, fs.ErrNotExist) {
		if f.snapshot > 0 {
			return found{}, damaged(dir, path, errors.New("there is a snapshot and no log"))
		}
		return f, nil
	} else if err != nil {
		return found{}, damaged(dir, path, err)
	}
	bolt, err := openBolt(path)
	if err != nil {
		return found{}, damaged(dir, path, err)
	}
	err = f.readLog(sealed{bolt})
	if errors.Is(err, desired.ErrTooNew) {
		err = fmt.Errorf("%s: %w: run a version of mcpfleet at least as new as the one that wrote it", path, err)
	} else if err != nil {
		err = damaged(dir, path, err)
	}
	if err := errors.Join(err, bolt.Close()); err != nil {
		return found{}, err
	}
	return f, nil
}

// readLog reads every entry. f has the newest snapshot already.
func (f *found) readLog(log logStore) (err error) {
	var lastTerm uint64
	if f.term, err = log.GetUint64(keyTerm); err != nil && err.Error() != "not found" { // raft knows raft-boltdb's error by its text
		return fmt.Errorf("read the term: %w", err)
	}
	if f.first, err = log.FirstIndex(); err != nil {
		return err
	}
	if f.last, err = log.LastIndex(); err != nil {
		return err
	}
	if f.term < f.at {
		return fmt.Errorf("its term is %d, that of the newest snapshot %d", f.term, f.at)
	}
	if f.first > f.snapshot+1 {
		return fmt.Errorf("it begins with entry %d, the newest snapshot ends with entry %d", f.first, f.snapshot)
	}
	for _, key := range []string{"LastVoteTerm", "LastVoteCand"} { // raft's names
		if _, err := log.Get([]byte(key)); err != nil && err.Error() != "not found" {
			return fmt.Errorf("read the vote: %w", err)
		}
	}
	for i := f.first; i <= f.last && i > 0; i++ {
		var l raft.Log
		e, err := readEntry(log, i, &l)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		if lead, ok := e.Command.(desired.BeginTenure); ok && f.incarnation == 0 { // the state keeps the first one
			f.incarnation = max(1, lead.Incarnation)
		}
		if l.Term < lastTerm || l.Term > f.term {
			return fmt.Errorf("entry %d has term %d, after term %d and with %d the present one", i, l.Term, lastTerm, f.term)
		}
		lastTerm = l.Term
	}
	return nil
}

// readEntry reads an entry. Entries of raft itself have no command.
func readEntry(log logStore, i uint64, l *raft.Log) (e desired.Entry, err error) {
	defer func() {
		if p := recover(); p != nil { // raft's decoder of configurations panics
			err = fmt.Errorf("does not decode: %v", p)
		}
	}()
	if err := log.GetLog(i, l); err != nil {
		return e, err
	}
	switch l.Type {
	case raft.LogCommand:
		return desired.DecodeEntry(l.Data)
	case raft.LogConfiguration:
		raft.DecodeConfiguration(l.Data)
	}
	return e, nil
}

// inspectSnapshots checks the newest snapshot. When it is damaged an older one is
// useless: the log may not have the entries between them any more.
func inspectSnapshots(dir string) (found, error) {
	path := snapshotPath(dir)
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return found{}, nil
	}
	if err != nil {
		return found{}, fmt.Errorf("read snapshots: %w", err)
	}
	var newest string
	var order [3]uint64
	for _, e := range entries {
		// A name is term-index-milliseconds. A name that ends in .tmp was never finished.
		parts := strings.Split(e.Name(), "-")
		var at [3]uint64
		ok := e.IsDir() && len(parts) == len(at)
		for i := range at {
			if ok {
				at[i], err = strconv.ParseUint(parts[i], 10, 64)
				ok = err == nil
			}
		}
		if ok && slices.Compare(at[:], order[:]) > 0 {
			newest, order = e.Name(), at
		}
	}
	if newest == "" {
		return found{}, nil
	}
	st, file, err := checkSnapshot(filepath.Join(path, newest), order[0], order[1])
	if errors.Is(err, desired.ErrTooNew) {
		return found{}, fmt.Errorf("%s: %w: run a version of mcpfleet at least as new as the one that wrote it", file, err)
	}
	if err != nil {
		return found{}, damaged(dir, file, err)
	}
	return found{snapshot: order[1], at: order[0], incarnation: st.Incarnation}, nil
}

// checkSnapshot returns the snapshot's state. With an error it returns the file that
// is damaged.
func checkSnapshot(dir string, term, index uint64) (st *desired.State, file string, err error) {
	file = filepath.Join(dir, "meta.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, file, err
	}
	var meta struct {
		raft.SnapshotMeta
		CRC []byte
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return nil, file, err
	}
	if meta.Term != term || meta.Index != index || len(meta.Configuration.Servers) == 0 {
		return nil, file, errors.New("it belongs to another snapshot")
	}
	file = filepath.Join(dir, "state.bin")
	if data, err = os.ReadFile(file); err != nil {
		return nil, file, err
	}
	crc := crc64.New(crc64.MakeTable(crc64.ECMA)) // raft's choice
	crc.Write(data)
	if !bytes.Equal(crc.Sum(nil), meta.CRC) {
		return nil, file, errors.New("checksum is wrong")
	}
	st, err = desired.Decode(data)
	return st, file, err
}
