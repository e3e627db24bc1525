package controller

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
	"github.com/mcpfleet/mcpfleet/internal/sessions"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// Config is what a controller needs.
type Config struct {
	Name      fleet.NodeID
	HTTP      net.Listener
	Raft      net.Listener
	GRPC      net.Listener // for the leader, to ask for the calls that wait here
	Gossip    string       // host:port to bind; port 0 takes a free one
	Advertise string       // host, or host:port of gossip, at which others reach this one; "": what is bound
	Join      []string     // host:port of other members; may be empty
	DataDir   string
	Zone      string // replicas in the same zone are preferred among equals
	MaxBody   int64  // of a request, in bytes; 0: web.DefaultMaxBody
	// HTTPHost is the host of --http, if that is a name. AllowedHosts are more names
	// that clients may use; see web.Config.
	HTTPHost     string
	AllowedHosts []string
	Version      string
	Log          *slog.Logger
	// LogDropped returns how many lines of the log were dropped because nobody read
	// them. Nil: that is not known, and there is no metric of it.
	LogDropped func() uint64

	// Expect is how many controllers without any state found a cluster once they see
	// each other; 0: this one waits to be taken into a cluster.
	Expect int
	// DeadAfter is when a dead controller is removed for good, if enough others are
	// left; 0: membership.DefaultDeadAfter.
	DeadAfter time.Duration

	// ShutdownDelay is how long a stopping controller serves on while /readyz says
	// that it is not ready. DrainTimeout is how long requests may take after that; 0:
	// 5s.
	ShutdownDelay time.Duration
	DrainTimeout  time.Duration

	// ResumeWindow is how long the answer to a request of an MCP client of the legacy era
	// is kept while the client is away; 0: fleet.DefaultWindow.
	ResumeWindow time.Duration
	// ParkWindow is how long a call waits for what an MCP client of the modern era was asked;
	// 0: 10 min.
	ParkWindow time.Duration
	// LegacySSE offers the deprecated HTTP+SSE transport of MCP, too.
	LegacySSE bool

	// File is the fleet file that fills an empty state; "": there is none. It is
	// applied again whenever Reload gets a value.
	File   string
	Lookup func(name string) (string, bool) // variables of the fleet file
	Reload <-chan os.Signal

	// Up is called once all listeners are bound. It may be nil.
	Up func(Addresses) error

	// Sessions is called with what opens sessions, before it runs. It may be nil. Tests
	// open sessions with it.
	Sessions func(*sessions.Service)

	// ExpectWorkers is how many workers a new cluster waits for before it places the
	// first replicas. It waits no longer than NodeGrace.
	ExpectWorkers int

	Timeouts    store.Timeouts   // of raft; zero: the defaults
	DiskTimeout time.Duration    // of a write to raft's log; 0: store.DefaultDiskTimeout
	LeaderWait  time.Duration    // of a request, for a leader; 0: httpapi.DefaultLeaderWait
	NodeGrace   time.Duration    // 0: observe.DefaultNodeGrace
	Workers     rpc.ClientConfig // connections to workers; zero: the defaults
	Controllers rpc.ClientConfig // connections to other controllers; zero: the defaults
}

// Addresses are where a controller can be reached.
type Addresses struct {
	HTTP   string `json:"http"`
	Gossip string `json:"gossip"`
	Raft   string `json:"raft"`
	GRPC   string `json:"grpc"`
}

// closeListeners closes the listeners of a start that failed. Others are closed
// already.
func (c *Config) closeListeners() {
	for _, l := range []net.Listener{c.HTTP, c.Raft, c.GRPC} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (c *Config) validate() error {
	switch {
	case c.DataDir == "":
		return errors.New("--data-dir must not be empty")
	case c.Log == nil || c.HTTP == nil || c.Raft == nil || c.GRPC == nil:
		return errors.New("a controller needs a logger and its listeners")
	case c.Expect < 0:
		return fmt.Errorf("--bootstrap-expect: %d is negative", c.Expect)
	case c.DeadAfter < 0:
		return fmt.Errorf("--dead-controller-after: %s is negative", c.DeadAfter)
	}
	if c.ShutdownDelay < 0 {
		return fmt.Errorf("--shutdown-delay: %s is negative", c.ShutdownDelay)
	}
	if c.ResumeWindow < 0 {
		return fmt.Errorf("--resume-window: %s is negative", c.ResumeWindow)
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("--drain-timeout: %s is negative", c.DrainTimeout)
	}
	if err := fleet.CheckAllowedHosts(c.AllowedHosts); err != nil {
		return fmt.Errorf("--allowed-hosts: %w", err)
	}
	if err := fleet.CheckNodeID(c.Name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	return nil
}
