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

// record is a container's directory below the data directory. It is made before
// podman is called and removed when nothing of the container is left, so that a
// later life finds even containers that podman's database has lost.
type record struct {
	name string // the container's
	dir  string
	cid  string // the container's id; "" until it was read
}

func (r *Runtime) record(name string) record {
	return record{name: name, dir: filepath.Join(r.recordsDir(), name)}
}

func (rec record) cidFile() string    { return filepath.Join(rec.dir, "cid") }
func (rec record) pidFile() string    { return filepath.Join(rec.dir, "pid") }
func (rec record) conmonFile() string { return filepath.Join(rec.dir, "conmon") }
func (rec record) envFile() string    { return filepath.Join(rec.dir, "env") }

// id returns the container's id, or "" if podman has made none yet.
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

// isID reports whether s is a full container id. It guards the removal of
// directories that are named by an id.
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

// markerName is an environment variable of podman clients that start a container
// or pull. Podman passes LC_* variables on to conmon, and no others.
const markerName = "LC_MCPFLEET"

// marker names the node and life that a client or conmon runs for.
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
