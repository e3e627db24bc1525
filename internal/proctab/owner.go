package proctab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
)

// Owner identifies one life of one worker. Everything that a worker starts
// carries it. A later life can then distinguish what a dead life left from what
// another, living worker of the same name runs on the same host.
type Owner struct {
	Dir  string // random id of the worker's data directory
	Life string // random
	Proc ID     // the worker's process
	Boot string // id of the host's boot
	NS   uint64 // inode of its pid namespace; 0 if unknown
}

// initNS is the inode of the host's own pid namespace, in which every process is
// visible.
const initNS = 0xEFFFFFFC

// ownerFile holds the data directory's random id.
const ownerFile = "owner-id"

// NewOwner returns the identity of this process's life with a data directory. The
// caller has locked the directory, so the lives that used it before are over.
func NewOwner(dataDir string) (Owner, error) {
	dir, err := dirID(filepath.Join(dataDir, ownerFile))
	if err != nil {
		return Owner{}, fmt.Errorf("identity of data directory: %w", err)
	}
	o := Owner{Dir: dir, Life: randomHex(), Boot: bootID(), NS: namespace("self"), Proc: ID{PID: os.Getpid()}}
	if p, ok := Find(o.Proc.PID); ok {
		o.Proc = p.ID
	}
	return o, nil
}

func dirID(path string) (string, error) {
	b, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(b)); err == nil && len(id) == 16 && !strings.Contains(id, ".") {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	id := randomHex()
	// With half an id, a later life would not recognise what carries the whole.
	return id, datadir.Replace(path, []byte(id+"\n"))
}

func randomHex() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails since Go 1.24
	return hex.EncodeToString(b)
}

// String returns the owner as it is written in labels and environments.
func (o Owner) String() string {
	return fmt.Sprintf("%s.%s.%d.%d.%s.%d", o.Dir, o.Life, o.Proc.PID, o.Proc.Start, o.Boot, o.NS)
}

// ParseOwner parses the result of String.
func ParseOwner(s string) (Owner, bool) {
	f := strings.Split(s, ".")
	if len(f) != 6 || f[0] == "" || f[1] == "" {
		return Owner{}, false
	}
	o := Owner{Dir: f[0], Life: f[1], Boot: f[4]}
	var errs [3]error
	o.Proc.PID, errs[0] = strconv.Atoi(f[2])
	o.Proc.Start, errs[1] = strconv.ParseUint(f[3], 10, 64)
	o.NS, errs[2] = strconv.ParseUint(f[5], 10, 64)
	return o, errors.Join(errs[:]...) == nil
}

// Outlived reports whether the other life is over for certain. It returns false
// in doubt: a process in a pid namespace that is not visible may live.
func (o Owner) Outlived(other Owner) bool {
	switch {
	case other.Dir == o.Dir:
		return other.Life != o.Life
	case other.Boot != o.Boot:
		return true
	case other.NS == o.NS:
		return !other.Proc.Alive()
	}
	for _, p := range Table() {
		// Pids differ from one namespace to the next, start times do not.
		if p.Start == other.Proc.Start && namespace(strconv.Itoa(p.PID)) == other.NS {
			return false
		}
	}
	return o.NS == initNS
}
