package fleetfile

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// document is a fleet file. The tags of its types define the allowed values.
// kind is the syntax of a value. bounds are its least and greatest value, or the
// words of a choice. only names the key without which this one means nothing.
// See shape and the schema's forms.
type document struct {
	Schema        string                            `json:"$schema,omitempty" kind:"ignored" jsonschema_description:"The address of this schema, for editors. mcpfleet ignores it."`
	DefaultServer fleet.ServerName                  `json:"default_server,omitempty" kind:"string" jsonschema_description:"The server whose tools have bare names at the root. A lone server is the default anyway."`
	Servers       map[fleet.ServerName]ServerView   `json:"servers" kind:"servers" jsonschema_description:"The servers by name. A name is a DNS label in lower case."`
	Gateways      map[fleet.GatewayName]GatewayView `json:"gateways,omitempty" kind:"named" jsonschema_description:"Endpoints that merge some of the servers, by name."`
	MCPServers    map[string]clientServer           `json:"mcpServers,omitempty" kind:"servers" jsonschema_description:"The servers in the form that MCP clients use, instead of servers."`
	Inputs        any                               `json:"inputs,omitempty" kind:"ignored" jsonschema_description:"Prompts for variables in the files of VS Code. mcpfleet ignores them."`
}

// ServerView is a spec in the keys of the fleet file. In the result of View,
// values of env are masked, so that it can be shown. Apart from these values it
// can be parsed again.
type ServerView struct {
	Image              string            `json:"image,omitempty" kind:"word" jsonschema_description:"The image to run, with podman. Excludes command."`
	PullPolicy         fleet.PullPolicy  `json:"pull_policy,omitempty" kind:"choice" bounds:"missing always never" only:"image" jsonschema_description:"When the image is pulled."`
	Entrypoint         []string          `json:"entrypoint,omitempty" kind:"command" only:"image" jsonschema_description:"Replaces the image's entrypoint."`
	Command            []string          `json:"command,omitempty" kind:"command" jsonschema_description:"The program and its arguments, run as a plain process. Excludes image and the keys that only containers have."`
	Args               []string          `json:"args,omitempty" kind:"list" jsonschema_description:"Arguments after the image's entrypoint or the command."`
	Env                map[string]string `json:"env,omitempty" kind:"env" jsonschema_description:"Environment variables, as a map or a list of NAME=VALUE. A name without a value takes the value from the environment. Values are secret: they are masked wherever they are shown."`
	Cwd                string            `json:"cwd,omitempty" kind:"string" jsonschema_description:"Working directory."`
	Mounts             []MountView       `json:"mounts,omitempty" kind:"mounts" only:"image" jsonschema_description:"Paths of the node, or volumes, to mount in the container."`
	Network            string            `json:"network,omitempty" kind:"word" only:"image" jsonschema_description:"podman's --network. none is a good choice for servers that need no network."`
	User               string            `json:"user,omitempty" kind:"user" only:"image" jsonschema_description:"podman's --user, for example 1000:1000."`
	ReadOnly           bool              `json:"read_only,omitempty" kind:"flag" only:"image" jsonschema_description:"Read-only root file system."`
	CapAdd             []string          `json:"cap_add,omitempty" kind:"capabilities" only:"image" jsonschema_description:"Capabilities to give back, since all are dropped. Images that su or chown at their start need some."`
	Devices            []string          `json:"devices,omitempty" kind:"devices" only:"image" jsonschema_description:"Devices of the node, as podman's --device: HOST[:CONTAINER[:rwm]], or a CDI name such as nvidia.com/gpu=all."`
	RunOptions         []string          `json:"run_options,omitempty" kind:"options" only:"image" jsonschema_description:"Further options of podman run, such as --shm-size=1g."`
	NoNewPrivileges    *bool             `json:"no_new_privileges,omitempty" kind:"flag" only:"image" jsonschema_description:"Set-user-id programs gain no privileges."` // shown only if it is off
	Labels             map[string]string `json:"labels,omitempty" kind:"labels" jsonschema_description:"Labels that a node must have."`
	DefaultTool        string            `json:"default_tool,omitempty" kind:"string" jsonschema_description:"The tool of calls that name none."`
	Tools              *ToolsView        `json:"tools,omitempty" kind:"section" jsonschema_description:"Which tools are offered, and how they are shown."`
	EnabledTools       []string          `json:"enabled_tools,omitempty" kind:"tools" jsonschema_description:"The former name of tools.allow."` // not shown
	DisabledTools      []string          `json:"disabled_tools,omitempty" kind:"tools" jsonschema_description:"The former name of tools.deny."` // not shown
	Replicas           *int              `json:"replicas,omitempty" kind:"replicas" bounds:"0 10000" jsonschema_description:"Number of replicas. 0 stops the server. auto lets it follow the load: the same as an empty autoscaling."`
	Autoscaling        *AutoscalingView  `json:"autoscaling,omitempty" kind:"mapping" jsonschema_description:"How the number of replicas follows the load. Excludes a number of replicas."`
	Update             *UpdateView       `json:"update,omitempty" kind:"section" jsonschema_description:"How one revision replaces another."`
	Warm               int               `json:"warm,omitempty" kind:"count" bounds:"0 1000" jsonschema_description:"Started spares that take no calls until they are needed."`
	MaxReplicasPerNode int               `json:"max_replicas_per_node,omitempty" kind:"count" bounds:"1 10000" jsonschema_description:"Most replicas on one node. No bound by default."`
	Resources          ResourcesView     `json:"resources,omitzero" kind:"section" jsonschema_description:"What a replica reserves on its node, and may use at most. Without it, nothing is reserved or limited."`
	MaxOngoingRequests int               `json:"max_ongoing_requests" kind:"count" bounds:"1 10000" jsonschema_description:"Calls at once per replica."`
	MaxQueuedRequests  int               `json:"max_queued_requests" kind:"count" bounds:"0 1000000" jsonschema_description:"Waiting calls per server; further calls are refused as overloaded."`
	MaxRequestBytes    int64             `json:"max_request_bytes" kind:"size" bounds:"1k 64m" jsonschema_description:"Largest call, measured as the one line that the server reads: 8m, 1MiB or bytes. Larger calls are refused."`
	CallTimeout        string            `json:"call_timeout" kind:"duration" bounds:"1ms 720h" jsonschema_description:"A call's deadline. Each progress notification of the server extends it by that much."`
	MaxCallDuration    string            `json:"max_call_duration" kind:"duration" bounds:"1ms 720h" jsonschema_description:"Longest duration of a call with progress notifications; not less than call_timeout."`
	Sessions           string            `json:"sessions,omitempty" kind:"choice" bounds:"shared session principal" jsonschema_description:"shared: one initialised conversation serves all callers. session: each client session has a replica to itself. principal: each user has; not supported yet."`
	MaxSessions        int               `json:"max_sessions,omitempty" kind:"count" bounds:"1 10000" jsonschema_description:"Sessions at once; further ones are refused as overloaded. 100 by default. Needs sessions: session."`
	SessionsEach       int               `json:"max_sessions_per_principal,omitempty" kind:"count" bounds:"1 10000" jsonschema_description:"Sessions at once of one user. No bound by default. Needs sessions: session."`
	SessionIdle        string            `json:"session_idle,omitempty" kind:"duration" bounds:"1s 720h" jsonschema_description:"A session that is not used for so long ends. 10m by default. Needs sessions: session."`
	SessionLifetime    string            `json:"session_lifetime,omitempty" kind:"duration" bounds:"1s 720h" jsonschema_description:"Longest life of a session. 24h by default. Needs sessions: session."`
	OnLoss             string            `json:"on_loss,omitempty" kind:"choice" bounds:"reinit 404" jsonschema_description:"What becomes of a session whose replica is lost. reinit, the default: it gets a fresh replica. 404: it ends. Needs sessions: session."`
	Era                fleet.Era         `json:"era,omitempty" kind:"choice" bounds:"auto legacy modern" jsonschema_description:"The era of MCP that the server speaks over stdio. auto, the default: the worker asks it."` // not shown if it is auto
	Health             HealthView        `json:"health" kind:"health" jsonschema_description:"The schedule of health checks, or off."`
	StartTimeout       string            `json:"start_timeout" kind:"duration" bounds:"1ms 720h" jsonschema_description:"From the process's start to READY, without the pull."`
	StopGrace          string            `json:"stop_grace" kind:"duration" bounds:"1ms 1h" jsonschema_description:"Time for each step of a stop: stdin closed, TERM, KILL."`
	DrainTimeout       string            `json:"drain_timeout,omitempty" kind:"duration" bounds:"0s 720h" jsonschema_description:"How long a stop waits for running calls. By default as long as a call may take, max_call_duration."`
}

// clientServer is a server in the files of MCP clients. It has the client keys
// that mean something here. All others are allowed, and ignored.
type clientServer struct {
	ServerView

	Type      string `json:"type,omitempty" kind:"ignored" jsonschema_description:"stdio or local. Servers of other types are left out."`
	Transport string `json:"transport,omitempty" kind:"ignored" jsonschema_description:"The same as type."`
	Disabled  bool   `json:"disabled,omitempty" kind:"flag" jsonschema_description:"Leaves the server out."`
	IsActive  bool   `json:"isActive,omitempty" kind:"flag" jsonschema_description:"Leaves the server out if it is false."`
	Enabled   bool   `json:"enabled,omitempty" kind:"flag" jsonschema_description:"Leaves the server out if it is false."`
	EnvFile   string `json:"envFile,omitempty" kind:"string" jsonschema_description:"A file of further environment variables."`
	Timeout   any    `json:"timeout,omitempty" kind:"ignored" jsonschema_description:"Sets call_timeout, in seconds; above 3600 in milliseconds."`

	DisabledToolsOfClient []string `json:"disabledTools,omitempty" kind:"tools" jsonschema_description:"The same as tools.deny."`
	ExcludeTools          []string `json:"excludeTools,omitempty" kind:"tools" jsonschema_description:"The same as tools.deny."`
	IncludeTools          any      `json:"includeTools,omitempty" kind:"ignored" jsonschema_description:"The same as tools.allow."`
	Tools                 any      `json:"tools,omitempty" kind:"ignored" jsonschema_description:"The same as tools.allow; * stands for all. A mapping is that of a fleet file."`
}

// MountView is a mount in the keys of the fleet file.
type MountView struct {
	Source   string `json:"source" kind:"source" jsonschema:"required" jsonschema_description:"A path on the node, or the name of a volume."`
	Target   string `json:"target" kind:"target" jsonschema:"required" jsonschema_description:"An absolute path in the container."`
	ReadOnly bool   `json:"read_only,omitempty" kind:"flag"`
	SELinux  string `json:"selinux,omitempty" kind:"choice" bounds:"z Z" jsonschema_description:"Labels the source for containers on hosts with SELinux: z shared, Z for this one alone."`
}

// ResourcesView is the resources in the keys of the fleet file; memory is in bytes.
type ResourcesView struct {
	CPUs   float64 `json:"cpus,omitempty" kind:"cores" bounds:"0 4096" jsonschema_description:"Cores, such as 0.5."`
	Memory int64   `json:"memory,omitempty" kind:"size" bounds:"6m 8388607t" jsonschema_description:"An amount such as 512m, 1g or 1GiB, or bytes."`
	PIDs   int64   `json:"pids,omitempty" kind:"count" bounds:"1 4194304" jsonschema_description:"Processes and threads."`

	Custom map[string]int64 `json:"custom,omitempty" kind:"counts" bounds:"1 1000000" jsonschema_description:"Countable resources by name, such as gpu, of which workers have some with --resource."`
}

// HealthView is the schedule of health checks in the keys of the fleet file.
type HealthView struct {
	Off      bool   `json:"-"` // written as the word off in place of the mapping
	Period   string `json:"period" kind:"duration" bounds:"100ms 24h" jsonschema_description:"Time between pings."`
	Timeout  string `json:"timeout" kind:"duration" bounds:"1ms 24h" jsonschema_description:"Time for the answer to a ping; not longer than the period."`
	Failures int    `json:"failures" kind:"count" bounds:"1 1000" jsonschema_description:"The replica is replaced after this many failed pings in a row."`
}

// MarshalJSON returns the word off if the checks are off, and otherwise the
// schedule.
func (h HealthView) MarshalJSON() ([]byte, error) {
	if h.Off {
		return []byte(`"off"`), nil
	}
	type schedule HealthView
	return json.Marshal(schedule(h))
}

// UnmarshalJSON accepts the output of MarshalJSON.
func (h *HealthView) UnmarshalJSON(b []byte) error {
	if string(b) == `"off"` {
		*h = HealthView{Off: true}
		return nil
	}
	type schedule HealthView
	return json.Unmarshal(b, (*schedule)(h))
}

// View returns the view of a spec.
func View(s *fleet.Spec) ServerView {
	v := viewOf(s)
	if v.Env != nil {
		v.Env = make(map[string]string, len(s.Env))
		for name := range s.Env {
			v.Env[name] = fleet.Masked
		}
	}
	return v
}

// TemplateView returns the view of a template as a JSON object. It has no keys
// for what a spec has beside its template.
func TemplateView(t *fleet.Template) ([]byte, error) {
	text, err := json.Marshal(View(&fleet.Spec{Template: *t}))
	if err != nil {
		return nil, err
	}
	var view map[string]json.RawMessage
	if err := json.Unmarshal(text, &view); err != nil {
		return nil, err
	}
	spec, of := reflect.TypeFor[fleet.Spec](), reflect.TypeFor[ServerView]()
	for i := range spec.NumField() {
		if field, ok := of.FieldByName(spec.Field(i).Name); ok {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			delete(view, key)
		}
	}
	return json.Marshal(view)
}

// viewOf returns the view of a spec with its secrets.
func viewOf(s *fleet.Spec) ServerView {
	v := ServerView{
		Image:              s.Image,
		PullPolicy:         s.PullPolicy,
		Entrypoint:         s.Entrypoint,
		Command:            s.Command,
		Args:               s.Args,
		Env:                s.Env,
		Cwd:                s.Cwd,
		Network:            s.Network,
		User:               s.User,
		ReadOnly:           s.ReadOnly,
		CapAdd:             s.CapAdd,
		Devices:            s.Devices,
		RunOptions:         s.RunOptions,
		Labels:             s.Labels,
		DefaultTool:        s.DefaultTool,
		Tools:              toolsView(s.Tools()),
		Autoscaling:        autoscalingView(s.Autoscaling),
		Update:             updateView(s.UpdatePolicy()),
		Warm:               s.Warm,
		MaxReplicasPerNode: s.MaxReplicasPerNode,
		Resources:          ResourcesView{CPUs: s.Resources.CPUs, Memory: s.Resources.Memory, PIDs: s.Resources.PIDs, Custom: s.Resources.Custom},
		MaxOngoingRequests: s.MaxOngoingRequests,
		MaxQueuedRequests:  s.MaxQueuedRequests,
		MaxRequestBytes:    s.RequestLimit(),
		CallTimeout:        s.CallTimeout.String(),
		MaxCallDuration:    s.MaxCallDuration.String(),
		Sessions:           s.Sessions,
		MaxSessions:        s.MaxSessions,
		SessionsEach:       s.SessionsEach,
		SessionIdle:        shownDuration(s.SessionIdle),
		SessionLifetime:    shownDuration(s.SessionLifetime),
		OnLoss:             s.OnLoss,
		Era:                s.Era,
		Health:             HealthView{Off: s.Health.Off, Period: s.Health.Period.String(), Timeout: s.Health.Timeout.String(), Failures: s.Health.Failures},
		StartTimeout:       s.StartTimeout.String(),
		StopGrace:          s.StopGrace.String(),
	}
	if s.Autoscaling == nil && !s.PerSession() {
		v.Replicas = new(s.Replicas)
	}
	if s.DrainTimeout != fleet.DrainCalls {
		v.DrainTimeout = s.DrainTimeout.String()
	}
	if s.NewPrivileges {
		v.NoNewPrivileges = new(bool)
	}
	for _, m := range s.Mounts {
		v.Mounts = append(v.Mounts, MountView(m))
	}
	return v
}
