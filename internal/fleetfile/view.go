package fleetfile

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Masked stands where a value of env is not shown.
const Masked = fleet.Masked

// ServerView is a spec in the keys of the fleet file, fit to be shown: values
// of env are masked. But for those, it can be parsed again.
type ServerView struct {
	Image              string            `json:"image,omitempty"`
	PullPolicy         fleet.PullPolicy  `json:"pull_policy,omitempty"`
	Entrypoint         []string          `json:"entrypoint,omitempty"`
	Command            []string          `json:"command,omitempty"`
	Args               []string          `json:"args,omitempty"`
	Env                map[string]string `json:"env,omitempty"`
	Cwd                string            `json:"cwd,omitempty"`
	Mounts             []MountView       `json:"mounts,omitempty"`
	Network            string            `json:"network,omitempty"`
	User               string            `json:"user,omitempty"`
	ReadOnly           bool              `json:"read_only,omitempty"`
	CapAdd             []string          `json:"cap_add,omitempty"`
	NoNewPrivileges    *bool             `json:"no_new_privileges,omitempty"` // shown when it is off
	Labels             map[string]string `json:"labels,omitempty"`
	DefaultTool        string            `json:"default_tool,omitempty"`
	Replicas           int               `json:"replicas"`
	MaxReplicasPerNode int               `json:"max_replicas_per_node,omitempty"`
	Resources          ResourcesView     `json:"resources,omitzero"`
	MaxOngoingRequests int               `json:"max_ongoing_requests"`
	MaxQueuedRequests  int               `json:"max_queued_requests"`
	CallTimeout        string            `json:"call_timeout"`
	MaxCallDuration    string            `json:"max_call_duration"`
	Sessions           string            `json:"sessions,omitempty"`
	Health             HealthView        `json:"health"`
	StartTimeout       string            `json:"start_timeout"`
	StopGrace          string            `json:"stop_grace"`
	DrainTimeout       string            `json:"drain_timeout"`
}

// MountView is a mount in the keys of the fleet file.
type MountView struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// ResourcesView is the resources in the keys of the fleet file; memory is in bytes.
type ResourcesView struct {
	CPUs   float64 `json:"cpus,omitempty"`
	Memory int64   `json:"memory,omitempty"`
	PIDs   int64   `json:"pids,omitempty"`
}

// HealthView is the schedule of pings in the keys of the fleet file.
type HealthView struct {
	Period   string `json:"period"`
	Timeout  string `json:"timeout"`
	Failures int    `json:"failures"`
}

// View returns the view of a spec.
func View(s *fleet.Spec) ServerView {
	v := ServerView{
		Image:              s.Image,
		PullPolicy:         s.PullPolicy,
		Entrypoint:         s.Entrypoint,
		Command:            s.Command,
		Args:               s.Args,
		Cwd:                s.Cwd,
		Network:            s.Network,
		User:               s.User,
		ReadOnly:           s.ReadOnly,
		CapAdd:             s.CapAdd,
		Labels:             s.Labels,
		DefaultTool:        s.DefaultTool,
		Replicas:           s.Replicas,
		MaxReplicasPerNode: s.MaxReplicasPerNode,
		Resources:          ResourcesView(s.Resources),
		MaxOngoingRequests: s.MaxOngoingRequests,
		MaxQueuedRequests:  s.MaxQueuedRequests,
		CallTimeout:        s.CallTimeout.String(),
		MaxCallDuration:    s.MaxCallDuration.String(),
		Sessions:           s.Sessions,
		Health:             HealthView{Period: s.Health.Period.String(), Timeout: s.Health.Timeout.String(), Failures: s.Health.Failures},
		StartTimeout:       s.StartTimeout.String(),
		StopGrace:          s.StopGrace.String(),
		DrainTimeout:       s.DrainTimeout.String(),
	}
	if s.NewPrivileges {
		v.NoNewPrivileges = new(bool)
	}
	for _, m := range s.Mounts {
		v.Mounts = append(v.Mounts, MountView(m))
	}
	if len(s.Env) > 0 {
		v.Env = make(map[string]string, len(s.Env))
		for name := range s.Env {
			v.Env[name] = Masked
		}
	}
	return v
}
