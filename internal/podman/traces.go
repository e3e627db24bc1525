package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// traces are the parts of a container that can be found on this host without
// podman. A podman that is killed during a start leaves them and does not know
// of them.
type traces struct {
	r         *Runtime
	rec       record
	id        string
	processes []proctab.ID
	stateDirs []string
	cgroups   []string
}

func (t *traces) none() bool {
	return len(t.processes) == 0 && len(t.stateDirs) == 0 && len(t.cgroups) == 0
}

func (t *traces) again() *traces { return t.r.findTraces(t.rec, t.id) }

func (r *Runtime) traces(rec record) *traces { return r.findTraces(rec, rec.id()) }

// findTraces finds the parts of a container by its name, and by its id if that is
// known or on the command line of a conmon.
func (r *Runtime) findTraces(rec record, id string) *traces {
	t := &traces{r: r, rec: rec, id: id}
	table := proctab.Table()
	roots := make(map[int]bool)
	words := make(map[int][]string, len(table))
	for _, p := range table {
		words[p.PID] = proctab.Cmdline(p.PID)
		if name, cid := conmonOf(words[p.PID]); name == rec.name {
			roots[p.PID] = true
			if t.id == "" {
				t.id = cid
			}
		}
	}
	if t.id != "" {
		for _, p := range table {
			switch w := words[p.PID]; {
			case isRuntimeFor(w, t.id), strings.Contains(proctab.Cgroups(p.PID), "/libpod-"+t.id):
				roots[p.PID] = true
			}
		}
		t.stateDirs = stateDirs(t.id)
		t.cgroups = cgroups(t.id)
	}
	// All descendants of conmon belong to the container, even a "runc init" that
	// has no cgroup yet.
	t.processes = proctab.Family(table, roots)
	return t
}

// conmonOf returns the name and id of the container that a conmon monitors, from
// its command line.
func conmonOf(words []string) (name, id string) {
	if len(words) == 0 || filepath.Base(words[0]) != "conmon" {
		return "", ""
	}
	for i, w := range words[:len(words)-1] {
		switch {
		case w == "--exit-command":
			return name, id // arguments of another program follow
		case w == "-n" || w == "--name":
			name = words[i+1]
		case (w == "-c" || w == "--cid") && isID(words[i+1]):
			id = words[i+1]
		}
	}
	return name, id
}

// isRuntimeFor reports whether a process is the OCI runtime at work on the
// container, or podman's clean-up after it.
func isRuntimeFor(words []string, id string) bool {
	if len(words) == 0 || !slices.Contains(words, id) {
		return false
	}
	switch filepath.Base(words[0]) {
	case "runc", "crun":
		return true
	case "podman":
		return slices.Contains(words, "cleanup")
	}
	return false
}

// stateRoots returns the directories in which OCI runtimes keep one directory per
// container.
func stateRoots() []string {
	roots := []string{"/run/runc", "/run/crun"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		roots = append(roots, filepath.Join(dir, "runc"), filepath.Join(dir, "crun"))
	}
	if uid := os.Getuid(); uid > 0 {
		dir := fmt.Sprintf("/run/user/%d", uid)
		roots = append(roots, filepath.Join(dir, "runc"), filepath.Join(dir, "crun"))
	}
	slices.Sort(roots)
	return slices.Compact(roots)
}

func stateDirs(id string) []string {
	var found []string
	for _, root := range stateRoots() {
		if dir := filepath.Join(root, id); exists(dir) {
			found = append(found, dir)
		}
	}
	return found
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// cgroups returns the container's cgroups in all hierarchies, as either of
// podman's cgroup managers names them.
func cgroups(id string) []string {
	var found []string
	for _, parent := range cgroupParents() {
		for _, name := range []string{"libpod-" + id, "libpod-conmon-" + id, "libpod-" + id + ".scope", "libpod-conmon-" + id + ".scope"} {
			m, _ := filepath.Glob(filepath.Join(parent, name)) // the patterns are well-formed
			found = append(found, m...)
		}
	}
	return found
}

// cgroupParents returns patterns of the directories in which podman makes
// cgroups. One is below the worker's own cgroup: the image of deploy/compose, in
// which the worker itself runs in a container, tells podman to use that.
func cgroupParents() []string {
	places := []string{"libpod_parent", "machine.slice", "user.slice"}
	if own, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(own)) {
			// hierarchy-ID:controllers:path; see cgroups(7).
			if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
				places = append(places, filepath.Join(f[2], "mcpfleet"))
			}
		}
	}
	slices.Sort(places)
	var parents []string
	for _, place := range slices.Compact(places) {
		parents = append(parents, filepath.Join("/sys/fs/cgroup", place), filepath.Join("/sys/fs/cgroup/*", place))
	}
	return parents
}

// scrub removes the traces. It kills the processes first, conmon before the
// others: conmon would report a spurious exit to podman, and the runtime cannot
// delete a container that runs.
func (r *Runtime) scrub(ctx context.Context, rec record) error {
	t := r.traces(rec)
	if t.none() {
		return nil
	}
	r.log.Warn("removing parts of a container that podman has left", "container", rec.name, "id", t.id,
		"processes", len(t.processes), "state", t.stateDirs, "cgroups", len(t.cgroups))
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := proctab.KillAll(ctx, func() []proctab.ID { return t.again().processes }); err != nil {
		return err
	}
	for _, dir := range t.again().stateDirs {
		root, runtime := filepath.Dir(dir), filepath.Base(filepath.Dir(dir))
		// A runtime that does not know the container fails, and only the directory
		// is left to remove.
		_ = exec.CommandContext(ctx, runtime, "--root", root, "delete", "--force", t.id).Run()
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return removeCgroups(ctx, t.id)
}

func removeCgroups(ctx context.Context, id string) error {
	for {
		var left error
		for _, dir := range cgroups(id) {
			if err := removeCgroup(dir); err != nil {
				left = err
			}
		}
		if left == nil {
			return nil
		}
		// A cgroup stays busy for a moment after its last process has ended.
		if err := proctab.Sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("remove cgroup: %w", left)
		}
	}
}

// removeCgroup removes a cgroup and those below it. Only directories can be
// removed there: the files belong to the kernel.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
