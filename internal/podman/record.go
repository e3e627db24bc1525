package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// record is what the data directory knows of one container. It is made before
// podman hears of the container and removed when nothing of it is left, so a
// later life finds even what podman's database has lost.
type record struct {
	name string // the container's
	dir  string
	cid  string // the container's id once it was read; "" before
}

func (r *Runtime) record(name string) record {
	return record{name: name, dir: filepath.Join(r.recordsDir(), name)}
}

func (rec record) cidFile() string    { return filepath.Join(rec.dir, "cid") }
func (rec record) pidFile() string    { return filepath.Join(rec.dir, "pid") }
func (rec record) conmonFile() string { return filepath.Join(rec.dir, "conmon") }
func (rec record) envFile() string    { return filepath.Join(rec.dir, "env") }

// id returns the container's id, "" before podman has made one.
func (rec record) id() string {
	if rec.cid != "" {
		return rec.cid
	}
	b, err := os.ReadFile(rec.cidFile())
	if id := strings.TrimSpace(string(b)); err == nil && isID(id) {
		return id
	}
	return ""
}

// isID tells a full container id from anything else: directories are removed
// by it.
func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func pidIn(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// markerName is a variable of the podman clients that start or pull. Podman
// hands variables LC_* down to conmon, and no others.
const markerName = "LC_MCPFLEET"

// marker says on whose behalf a client or conmon runs.
type marker struct {
	node  fleet.NodeID
	owner proctab.Owner
}

func (m marker) String() string { return fmt.Sprintf("%s=%s/%s", markerName, m.node, m.owner) }

func readMarker(pid int) (marker, bool) {
	s, ok := proctab.Getenv(pid, markerName)
	if !ok {
		return marker{}, false
	}
	node, life, _ := strings.Cut(s, "/")
	owner, ok := proctab.ParseOwner(life)
	return marker{fleet.NodeID(node), owner}, ok
}
