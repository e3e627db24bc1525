package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Launch describes the replica that a runtime starts.
type Launch struct {
	Cluster  ClusterID
	Node     NodeID
	Replica  ReplicaID
	Server   ServerName
	Revision Revision
	Template *Template
	// Pulling is called by Prepare when an image pull begins, and with each line of its
	// progress. It must not block. It is never nil there.
	Pulling func(progress string)
}

// ErrImageGone means that the image that Prepare has found or pulled is no longer on the
// node. Another Prepare may pull it again.
var ErrImageGone = errors.New("its image is no longer on the node")

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

// CanRun reports whether a node that offers these runtimes can run the template. A
// runtime with another name, as tests have, runs everything. So does a node that
// names no runtime.
func CanRun(runtimes []string, t *Template) bool {
	needed := t.NeededRuntime()
	for _, name := range runtimes {
		if name == needed || name != RuntimePodman && name != RuntimeProcess {
			return true
		}
	}
	return len(runtimes) == 0
}

// Runtime starts replicas. Packages podman and process implement it, and tests have
// their own. All methods may be called at once.
type Runtime interface {
	// Name is RuntimePodman, RuntimeProcess or a test's own.
	Name() string

	// Prepare fetches what Start needs from elsewhere: it checks the launch and pulls
	// its image, as the pull policy says. A launch that is to pull an image ahead of
	// need has nothing but a template with image and policy, and Pulling. If ctx ends
	// first, Prepare returns soon with its cause.
	Prepare(ctx context.Context, l Launch) error

	// Start starts a replica after Prepare and returns when its process runs. Its error
	// tells the operator why the replica did not start, and wraps ErrImageGone if
	// Prepare may help. If ctx ends first, Start returns soon with its cause, and
	// nothing of the replica remains once the runtime's background work is done (see
	// Close).
	Start(ctx context.Context, l Launch) (Process, error)

	// Sweep removes what an earlier life of this node left: processes,
	// containers, state, temporary files. It is called once, before any
	// Start, and returns what it removed.
	Sweep(ctx context.Context) (removed []string, err error)

	// Close waits until half-started replicas are removed, or until ctx ends, and
	// frees the runtime's own resources.
	Close(ctx context.Context) error
}

// Creator is a Process that is created before it starts, as a container is.
type Creator interface {
	// Created returns when it had been created. It is zero if that is not known.
	Created() time.Time
}

// Metered is a Process whose use of resources can be read.
type Metered interface {
	// Consumed returns the CPU time used so far, and the memory in use, in bytes. It
	// reports false if that is not known, or not any more. It does not block.
	Consumed() (cpu time.Duration, memory int64, ok bool)
}

// Hinter is a Process that can give the operator a hint.
type Hinter interface {
	// Hint returns what may help, given how the process ended and what it wrote to
	// stderr. It returns "" if nothing is known to help.
	Hint(e Exit, stderr []string) string
}

// Process is one started replica. Stdin, Stdout and Stderr are pipes that
// belong to the caller, which closes them. The end of Stdout is the end of the
// replica. The caller then calls Exit. It must call Remove once in any case, after
// which nothing of the replica remains.
type Process interface {
	PID() int            // 0 when unknown
	ContainerID() string // "" for plain processes
	Stdin() io.WriteCloser
	Stdout() io.ReadCloser
	Stderr() io.ReadCloser

	// Done is closed when the runtime knows by itself that the process has
	// ended. It may be nil for runtimes that learn it from Stdout only.
	Done() <-chan struct{}

	// Ended reports whether the process has ended, according to the operating
	// system. It does not block. It reports false if that is unknown.
	Ended() bool

	// Signal sends TERM or KILL (kill = true) to the replica, to its whole
	// group or container. It returns nil if the replica is gone.
	Signal(ctx context.Context, kill bool) error

	// Exit returns how the process ended. It waits for that until ctx ends, which
	// Exit.Err then says.
	Exit(ctx context.Context) Exit

	// Remove kills whatever still runs and removes every trace. It is idempotent.
	Remove(ctx context.Context) error
}
