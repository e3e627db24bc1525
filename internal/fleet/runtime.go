package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Launch is all a runtime needs to start one replica.
type Launch struct {
	Cluster  ClusterID
	Node     NodeID
	Replica  ReplicaID
	Server   ServerName
	Revision Revision
	Template *Template
	// Pulling is called when an image pull begins, with a line of progress as
	// it comes, if there is any. It must not block. Never nil.
	Pulling func(progress string)
	// Starting is called when the pull, if any, is over and the process is
	// about to start. It must not block. Never nil.
	Starting func()
}

// The names of the runtimes. A worker offers one of them, or both.
const (
	RuntimePodman  = "podman"  // runs images, as containers
	RuntimeProcess = "process" // runs commands, as plain processes
)

// ParseRuntimes reads the value of --runtime: the names of runtimes with commas
// between them, in any order. It returns them in the order above, and nil for
// "auto".
func ParseRuntimes(text string) ([]string, error) {
	if strings.TrimSpace(text) == "auto" {
		return nil, nil
	}
	var asked []string
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		switch {
		case name == "auto":
			return nil, errors.New("auto cannot be combined with others")
		case name != RuntimePodman && name != RuntimeProcess:
			return nil, fmt.Errorf("must be podman, process or auto, not %q", name)
		case slices.Contains(asked, name):
			return nil, fmt.Errorf("%s is given twice", name)
		}
		asked = append(asked, name)
	}
	slices.Sort(asked)
	return asked, nil
}

// NeededRuntime returns the name of the runtime that the template needs.
func (t *Template) NeededRuntime() string {
	if len(t.Command) > 0 {
		return RuntimeProcess
	}
	return RuntimePodman
}

// CanRun reports whether a node that offers these runtimes can run the
// template. A runtime of any other name runs everything: tests have such ones.
// So does a node that names none.
func CanRun(runtimes []string, t *Template) bool {
	needed := t.NeededRuntime()
	for _, name := range runtimes {
		if name == needed || name != RuntimePodman && name != RuntimeProcess {
			return true
		}
	}
	return len(runtimes) == 0
}

// Runtime starts replicas as processes of some kind. Two exist: podman and
// process; tests bring their own. All methods may be called at once.
type Runtime interface {
	// Name is RuntimePodman, RuntimeProcess or a test's own.
	Name() string

	// Start starts one replica and returns once its process runs, or with an
	// error that says why it could not, in words for the operator. When ctx
	// ends early Start returns soon with ctx's cause, and nothing of the
	// replica remains once the runtime's own background work is done (see
	// Close).
	Start(ctx context.Context, l Launch) (Process, error)

	// Sweep removes what an earlier life of this node left: processes,
	// containers, state, temporary files. It is called once, before any
	// Start, and tells what it removed.
	Sweep(ctx context.Context) (removed []string, err error)

	// Close waits for background work (half-started replicas being removed),
	// bounded by ctx, and frees what the runtime itself holds.
	Close(ctx context.Context) error
}

// Hinter is a Process that knows what an operator may try.
type Hinter interface {
	// Hint says so in words, from how the process ended and what it wrote to
	// stderr; "" when nothing is known to help.
	Hint(e Exit, stderr []string) string
}

// Process is one started replica. Stdin, Stdout and Stderr are pipes that
// belong to the caller, who closes them. The end of Stdout is the end of the
// replica: the caller then asks Exit, and must call Remove in any case, once,
// after which nothing of the replica remains.
type Process interface {
	PID() int            // 0 when unknown
	ContainerID() string // "" for plain processes
	Stdin() io.WriteCloser
	Stdout() io.ReadCloser
	Stderr() io.ReadCloser

	// Done is closed when the runtime knows by itself that the process has
	// ended. It may be nil for runtimes that learn it from Stdout only.
	Done() <-chan struct{}

	// Ended reports whether the operating system says that the process has
	// ended. It does not wait, and asks nobody who may be slow. It reports
	// false when the process runs and when that cannot be told.
	Ended() bool

	// Signal sends TERM or KILL (kill = true) to the replica, to its whole
	// group or container. A replica that is gone is no error.
	Signal(ctx context.Context, kill bool) error

	// Exit tells how the process ended. It waits, at most until ctx ends, and
	// then says so in Exit.Err.
	Exit(ctx context.Context) Exit

	// Remove kills what still runs and removes every trace. Idempotent.
	Remove(ctx context.Context) error
}
