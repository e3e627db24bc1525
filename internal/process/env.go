package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// inherited lists the variables of the worker that a replica gets. It gets no
// others, because the worker's environment may hold secrets of other servers.
// These are the ones that the official TypeScript client passes on, and LANG and
// TMPDIR.
var inherited = []string{"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"}

// childEnv returns the environment of a replica.
func (r *Runtime) childEnv(l fleet.Launch) ([]string, error) {
	vars := make(map[string]string)
	for _, kv := range r.environ {
		// A value with this prefix is a shell function, which that client skips too.
		if name, value, ok := strings.Cut(kv, "="); ok && slices.Contains(inherited, name) && !strings.HasPrefix(value, "()") {
			vars[name] = value
		}
	}
	for name, value := range l.Template.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, fmt.Errorf("env: %q is not a name", name)
		}
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("env: the value of %s contains a NUL byte", name)
		}
		vars[name] = value
	}
	vars[markerName] = markerOf(l, r.owner).String()
	env := make([]string, 0, len(vars))
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env, nil
}

// about adds the command to an error that does not begin with its path.
func about(command string, err error) error {
	if strings.HasPrefix(err.Error(), command+" ") {
		return err
	}
	return fmt.Errorf("command %q: %w", command, err)
}

// lookPath finds a command as a shell in cwd with that environment would.
func lookPath(name, cwd string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if cwd != "" && !filepath.IsAbs(path) {
			path = filepath.Join(cwd, path)
		}
		path, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("command %q: %w", name, err)
		}
		if err := executable(path); err != nil {
			if program, args, spaces := strings.Cut(path, " "); spaces && executable(program) == nil {
				return "", fmt.Errorf("command %q: %w: a command is one program; move the words after %q to args, as %q", name, err, program, strings.Fields(args))
			}
			return "", about(name, err)
		}
		return path, nil
	}
	var search string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			search = v
		}
	}
	for _, dir := range filepath.SplitList(search) {
		// Relative entries are skipped: the child has another working directory.
		if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) == nil {
			return path, nil
		}
	}
	if program, args, spaces := strings.Cut(name, " "); spaces {
		return "", fmt.Errorf("command %q not found in PATH %q: a command is one program; move the words after %q to args, as %q", name, search, program, strings.Fields(args))
	}
	return "", fmt.Errorf("command %q not found in PATH %q", name, search)
}

func executable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s not found", path)
	case err != nil:
		return err
	case fi.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case !fi.Mode().IsRegular(): // opening a named pipe would block
		return fmt.Errorf("%s is not a regular file", path)
	case fi.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	return nil
}

// markerName is the environment variable that identifies processes of replicas.
const markerName = "MCPFLEET_REPLICA"

// marker names the replica that a process belongs to, and who started it.
type marker struct {
	cluster fleet.ClusterID
	node    fleet.NodeID
	replica fleet.ReplicaID
	owner   proctab.Owner
}

func markerOf(l fleet.Launch, owner proctab.Owner) marker {
	return marker{l.Cluster, l.Node, l.Replica, owner}
}

func (m marker) String() string {
	return fmt.Sprintf("%s/%s/%s/%s", m.cluster, m.node, m.replica, m.owner)
}

// readMarker returns the marker of a process, if it has one.
func readMarker(pid int) (marker, bool) {
	s, ok := proctab.Getenv(pid, markerName)
	if !ok {
		return marker{}, false
	}
	f := strings.Split(s, "/")
	if len(f) != 4 {
		return marker{}, false
	}
	owner, ok := proctab.ParseOwner(f[3])
	return marker{fleet.ClusterID(f[0]), fleet.NodeID(f[1]), fleet.ReplicaID(f[2]), owner}, ok
}
