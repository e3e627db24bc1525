package agenttest

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Server is a program: it reads stdin, writes stdout and stderr, and returns
// its exit code. ctx ends when it is killed: its pipes are dead then, and it
// must return.
type Server func(ctx context.Context, s *Stdio) (exitCode int)

// Stdio is what a program is born with.
type Stdio struct {
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Term    <-chan struct{} // closed at the first TERM
	Launch  fleet.Launch
	Runtime *Runtime
	// CloseOut closes stdout while the program runs on.
	CloseOut func()
	// Inherit makes a grandchild inherit stdout: it stays open when the
	// program has ended, until the replica is removed.
	Inherit func()
}

// process is one running Server.
type process struct {
	rt                    *Runtime
	launch                fleet.Launch
	stdin, stdout, stderr *pipe
	kill                  context.CancelFunc
	killed                context.Context // it is the program's life, not a request
	term                  chan struct{}
	termOnce              sync.Once
	done                  chan struct{} // closed with exit set

	mu        sync.Mutex
	exit      *fleet.Exit
	cpu       time.Duration
	memory    int64
	inherited bool // by a grandchild that holds stdout
}

func newProcess(rt *Runtime, l fleet.Launch) *process {
	p := &process{
		rt: rt, launch: l,
		stdin: newPipe(), stdout: newPipe(), stderr: newPipe(),
		term: make(chan struct{}), done: make(chan struct{}),
	}
	p.killed, p.kill = context.WithCancel(context.Background())
	return p
}

func (p *process) run(serve Server) {
	code := serve(p.killed, &Stdio{
		In: readEnd{p.stdin}, Out: writeEnd{p.stdout}, Err: writeEnd{p.stderr},
		Term: p.term, Launch: p.launch, Runtime: p.rt,
		CloseOut: func() { _ = writeEnd{p.stdout}.Close() },
		Inherit:  p.inherit,
	})
	p.end(fleet.Exit{Code: code})
}

// end makes the process dead, once: what it wrote can still be read.
func (p *process) end(exit fleet.Exit) bool {
	p.mu.Lock()
	first := p.exit == nil
	if first {
		p.exit = &exit
		close(p.done)
	}
	held := p.inherited
	p.mu.Unlock()
	if !held {
		_ = writeEnd{p.stdout}.Close()
	}
	_ = writeEnd{p.stderr}.Close()
	_ = readEnd{p.stdin}.Close()
	p.kill()
	return first
}

func (p *process) inherit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inherited = true
}

func (p *process) PID() int              { return 0 }
func (p *process) ContainerID() string   { return "test-" + string(p.launch.Replica) }
func (p *process) Stdin() io.WriteCloser { return notedCloser{writeEnd{p.stdin}, p} }
func (p *process) Stdout() io.ReadCloser { return readEnd{p.stdout} }
func (p *process) Stderr() io.ReadCloser { return readEnd{p.stderr} }
func (p *process) Done() <-chan struct{} { return p.done }

// Consumed implements fleet.Metered, with what Runtime.Consume was told.
func (p *process) Consumed() (cpu time.Duration, memory int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cpu, p.memory, p.memory > 0 && p.exit == nil
}

// Hint implements fleet.Hinter for replicas that ask for help.
func (p *process) Hint(e fleet.Exit, stderr []string) string {
	if said := strings.Join(stderr, " "); strings.Contains(said, "help") {
		return "hint for " + e.String() + " after " + said
	}
	return ""
}

func (p *process) note(step string) { p.rt.note(p.launch.Replica, step) }
func (p *process) ids() (fleet.ServerName, fleet.ReplicaID) {
	return p.launch.Server, p.launch.Replica
}

func (p *process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) Signal(ctx context.Context, kill bool) error {
	server, id := p.ids()
	if kill {
		p.note("KILL")
	} else {
		p.note("TERM")
	}
	if err := p.rt.fault(ctx, StepSignal, server, id); err != nil {
		return err
	}
	if kill {
		p.end(fleet.Exit{Code: -1, Signal: "SIGKILL"})
	} else {
		p.termOnce.Do(func() { close(p.term) })
	}
	return nil
}

func (p *process) Exit(ctx context.Context) fleet.Exit {
	server, id := p.ids()
	if err := p.rt.fault(ctx, StepExit, server, id); err != nil {
		return fleet.Exit{Err: err.Error()}
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return fleet.Exit{Err: "it still runs: " + context.Cause(ctx).Error()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("exit")
	return *p.exit
}

func (p *process) Remove(ctx context.Context) error {
	server, id := p.ids()
	p.note("remove")
	if err := p.rt.fault(ctx, StepRemove, server, id); err != nil {
		return err
	}
	p.end(fleet.Exit{Code: -1, Signal: "SIGKILL"})
	_ = writeEnd{p.stdout}.Close()
	p.rt.mu.Lock()
	defer p.rt.mu.Unlock()
	if p.rt.processes[id] == p {
		delete(p.rt.processes, id)
	}
	return nil
}

// notedCloser notes when stdin was closed, as a step of the stop.
type notedCloser struct {
	writeEnd
	p *process
}

func (n notedCloser) Close() error {
	n.mu.Lock()
	first := !n.wclosed
	n.mu.Unlock()
	if first {
		n.p.note("stdin closed")
	}
	return n.writeEnd.Close()
}
