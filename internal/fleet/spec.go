package fleet

import (
	"cmp"
	"time"
)

// Spec is a server as the fleet file describes it, with defaults filled in and
// variables replaced. Package fleetfile makes and validates it. After that it is
// shared and never changed.
type Spec struct {
	Template

	Replicas           int          // 0 if Autoscaling is set
	Autoscaling        *Autoscaling `json:",omitempty"` // nil: the number of replicas is fixed
	Update             *Update      `json:",omitempty"` // nil: as UpdatePolicy says
	Warm               int          `json:",omitempty"` // started spares that take no calls until needed
	MaxReplicasPerNode int          // 0: no bound
	MaxOngoingRequests int          // per replica
	MaxQueuedRequests  int          // per server and controller
	// MaxRequestBytes bounds a call, as the line that the server reads; see
	// RequestLimit.
	MaxRequestBytes int64 `json:",omitempty"`
	CallTimeout     time.Duration
	MaxCallDuration time.Duration // progress notifications extend the deadline up to this
	DefaultTool     string        // "" if there is no default tool
	// These are 0 and "" unless each session has a replica to itself; see PerSession.
	MaxSessions     int           `json:",omitempty"`
	SessionsEach    int           `json:",omitempty"` // of one caller; 0: no bound
	SessionIdle     time.Duration `json:",omitempty"` // a session that is not used for so long ends
	SessionLifetime time.Duration `json:",omitempty"` // the longest a session may be
	OnLoss          string        `json:",omitempty"` // OnLossReinit or OnLossNotFound
	// Tools has these three together. The first two names are from before the fleet
	// file had the key tools.
	EnabledTools  []string                `json:",omitempty"`
	DisabledTools []string                `json:",omitempty"`
	ToolOverrides map[string]ToolOverride `json:",omitempty"`
}

// Tools returns which tools the server offers, and how they are shown.
func (s *Spec) Tools() Tools {
	return Tools{Allow: s.EnabledTools, Deny: s.DisabledTools, Overrides: s.ToolOverrides}
}

// Offers reports whether a tool of the server, by its own name, may be listed and
// called.
func (s *Spec) Offers(tool string) bool {
	tools := s.Tools()
	return tools.Offers(tool)
}

// DrainTime returns how long a stop of a replica made from t waits for running calls.
func (s *Spec) DrainTime(t *Template) time.Duration {
	if t.DrainTimeout == DrainCalls {
		return cmp.Or(s.MaxCallDuration, DefaultMaxCallDuration)
	}
	return t.DrainTimeout
}

// UpdatePolicy returns how the server is updated.
func (s *Spec) UpdatePolicy() Update {
	if s.Update == nil {
		return DefaultUpdate()
	}
	return *s.Update
}

// RequestLimit returns how large a call of the server may be.
func (s *Spec) RequestLimit() int64 { return cmp.Or(s.MaxRequestBytes, DefaultMaxRequestBytes) }

// Template is the part of a spec that a replica is made from. Two specs with
// equal templates belong to the same revision.
type Template struct {
	Image      string            `json:",omitempty"`
	PullPolicy PullPolicy        `json:",omitempty"`
	Entrypoint []string          `json:",omitempty"` // nil: the image's own
	Command    []string          `json:",omitempty"` // a plain process; excludes Image
	Args       []string          `json:",omitempty"`
	Env        map[string]string `json:",omitempty"` // secret: masked wherever shown
	Cwd        string            `json:",omitempty"`
	Mounts     []Mount           `json:",omitempty"`
	Network    string            `json:",omitempty"` // as podman's --network; "" is podman's default
	User       string            `json:",omitempty"`
	ReadOnly   bool              `json:",omitempty"`
	CapAdd     []string          `json:",omitempty"`
	Devices    []string          `json:",omitempty"` // as podman's --device
	RunOptions []string          `json:",omitempty"` // further ones of podman run, each --name=value
	// NewPrivileges lets processes gain privileges (setuid programs): no
	// no-new-privileges.
	NewPrivileges bool              `json:",omitempty"`
	Resources     Resources         `json:",omitzero"`
	Labels        map[string]string `json:",omitempty"` // placement: node labels that must match
	Sessions      string            `json:",omitempty"` // SessionsShared or another mode
	Era           Era               `json:",omitempty"` // EraAuto: the worker asks the server
	Health        Health            `json:",omitzero"`
	StartTimeout  time.Duration     `json:",omitempty"` // from process start to READY, the pull not counted
	StopGrace     time.Duration     `json:",omitempty"` // each step of the stop: stdin closed, TERM, KILL
	// DrainTimeout is how long a stop waits for running calls; see DrainCalls.
	DrainTimeout time.Duration `json:",omitempty"`
}

// Health is the schedule of pings.
type Health struct {
	Off      bool `json:",omitempty"` // no pings: a replica that hangs is not replaced
	Period   time.Duration
	Timeout  time.Duration
	Failures int // pings failed in a row that make a replica unhealthy
}

// PullPolicy says when an image is pulled.
type PullPolicy string

// The pull policies.
const (
	PullMissing PullPolicy = "missing"
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// Masked is shown in place of a secret. A write with it keeps the stored secret.
const Masked = "***"

// Defaults of a spec, in one place.
const (
	DefaultReplicas   = 1
	DefaultMaxOngoing = 8
	DefaultMaxQueued  = 128
	// Servers of the TypeScript SDK stop reading at 10 MiB.
	DefaultMaxRequestBytes = 8 << 20
	DefaultCallTimeout     = 60 * time.Second
	DefaultMaxCallDuration = 10 * time.Minute
	DefaultHealthPeriod    = 10 * time.Second
	DefaultHealthTimeout   = 5 * time.Second
	DefaultHealthFailures  = 3
	DefaultStartTimeout    = 60 * time.Second
	DefaultStopGrace       = 2 * time.Second
	// DrainCalls is a DrainTimeout as long as a call may take: MaxCallDuration.
	DrainCalls time.Duration = -1
)

// Server is a named, desired spec with its revision, as desired state has it.
type Server struct {
	Name     ServerName
	Revision Revision
	// Spec is as the user wrote it, but for the session mode of a server that needs no
	// sessions: see Sessionless.
	Spec   Spec
	Target Target // replicas wanted now
	// Generation counts the restarts by hand. Replicas of an earlier one are to be
	// replaced.
	Generation uint64
	// Era is what the present revision was last found to speak; EraAuto: nobody knows yet.
	Era Era
	// Sessionless means that each session were to have a replica to itself, but the server is
	// of the modern era, which has no sessions. So it is a shared server with one replica.
	Sessionless bool
	// Offers and StableOffers mean that it is known what the revision, and the stable
	// one, offers.
	Offers, StableOffers bool
	// Stable is the last revision that was rolled out completely, with its
	// template. During the next rollout, replicas of it that die are replaced by
	// replicas of the same revision. 0 and nil mean the present revision, or that
	// there is no such revision yet.
	Stable         Revision
	StableTemplate *Template
	// Rollout is the rollout to this revision and generation that is under way: its
	// end has not been written. Nil: there is none.
	Rollout *Rollout
	// Failed is the revision that was rolled back last, until the next update.
	Failed *FailedRevision
	Floor  Floor
	// Written grows with each write of the spec by a user.
	Written uint64
}

// Rolling reports whether a rollout is under way.
func (s *Server) Rolling() bool { return s.Rollout != nil }

// OnCall reports whether the server runs only while somebody calls it.
func (s *Server) OnCall() bool {
	a := s.Spec.Autoscaling
	return a != nil && (a.MinReplicas == 0 || s.Target.Idle())
}

// NodeIntent is how operators want a node to be used. The zero value is an ordinary
// node.
type NodeIntent struct {
	Cordoned bool // no new replicas are placed there
	// DrainUntil is when the replicas that have not moved elsewhere are stopped.
	// Zero: the node is not drained. A drained node is cordoned too.
	DrainUntil time.Time
}
