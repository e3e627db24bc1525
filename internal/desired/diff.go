package desired

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Diff returns all fields in which two specs differ, named and written as in
// the fleet file. A nil spec has no fields.
func Diff(old, new *fleet.Spec) []Difference {
	return compare(specFields(old), specFields(new))
}

// DiffTemplates returns all fields in which two templates differ, as Diff does.
func DiffTemplates(old, new *fleet.Template) []Difference {
	return compare(templateFields(old), templateFields(new))
}

// field is one field of a spec. Its text is JSON, "" when the fleet file would
// leave it out.
type field struct {
	name   string
	text   string
	secret bool
}

// compare returns the differences in the order of the fields: first those that
// the new spec has, then those that are gone.
func compare(old, new []field) []Difference {
	var out []Difference
	had := make(map[string]field, len(old))
	for _, f := range old {
		had[f.name] = f
	}
	for _, f := range new {
		before := had[f.name]
		delete(had, f.name)
		if before.text != f.text {
			out = append(out, difference(f.name, before, f))
		}
	}
	for _, f := range old {
		if _, gone := had[f.name]; gone && f.text != "" {
			out = append(out, difference(f.name, f, field{}))
		}
	}
	return out
}

func difference(name string, from, to field) Difference {
	return Difference{Field: name, From: from.shown(), To: to.shown()}
}

func (f field) shown() string {
	if f.secret && f.text != "" {
		return jsonUnless(false, fleet.Masked)
	}
	return f.text
}

func specFields(s *fleet.Spec) []field {
	if s == nil {
		return nil
	}
	tools := s.Tools()
	fields := append(slices.Concat(templateFields(&s.Template), toolsFields(&tools)),
		field{name: "default_tool", text: jsonUnless(s.DefaultTool == "", s.DefaultTool)},
		field{name: "replicas", text: jsonUnless(s.Autoscaling != nil || s.PerSession(), s.Replicas)},
		field{name: "max_sessions", text: jsonUnless(s.MaxSessions == 0, s.MaxSessions)},
		field{name: "max_sessions_per_principal", text: jsonUnless(s.SessionsEach == 0, s.SessionsEach)},
		field{name: "session_idle", text: jsonUnless(s.SessionIdle == 0, s.SessionIdle.String())},
		field{name: "session_lifetime", text: jsonUnless(s.SessionLifetime == 0, s.SessionLifetime.String())},
		field{name: "on_loss", text: jsonUnless(s.OnLoss == "", s.OnLoss)},
		field{name: "warm", text: jsonUnless(s.Warm == 0, s.Warm)},
		field{name: "max_replicas_per_node", text: jsonUnless(s.MaxReplicasPerNode == 0, s.MaxReplicasPerNode)},
		field{name: "max_ongoing_requests", text: jsonUnless(false, s.MaxOngoingRequests)},
		field{name: "max_queued_requests", text: jsonUnless(false, s.MaxQueuedRequests)},
		field{name: "max_request_bytes", text: jsonUnless(false, s.RequestLimit())},
		field{name: "call_timeout", text: duration(s.CallTimeout)},
		field{name: "max_call_duration", text: duration(s.MaxCallDuration)},
	)
	update := s.UpdatePolicy()
	return slices.Concat(fields, autoscalingFields(s.Autoscaling), updateFields(&update))
}

func templateFields(t *fleet.Template) []field {
	if t == nil {
		return nil
	}
	fields := []field{
		{name: "image", text: jsonUnless(t.Image == "", t.Image)},
		{name: "pull_policy", text: jsonUnless(t.PullPolicy == "", t.PullPolicy)},
		{name: "entrypoint", text: list(t.Entrypoint)},
		{name: "command", text: list(t.Command)},
		{name: "args", text: list(t.Args)},
	}
	for _, name := range slices.Sorted(maps.Keys(t.Env)) {
		fields = append(fields, field{name: "env." + name, text: jsonUnless(false, t.Env[name]), secret: true})
	}
	fields = append(fields,
		field{name: "cwd", text: jsonUnless(t.Cwd == "", t.Cwd)},
		field{name: "mounts", text: mounts(t.Mounts)},
		field{name: "network", text: jsonUnless(t.Network == "", t.Network)},
		field{name: "user", text: jsonUnless(t.User == "", t.User)},
		field{name: "read_only", text: jsonUnless(!t.ReadOnly, true)},
		field{name: "cap_add", text: list(t.CapAdd)},
		field{name: "devices", text: list(t.Devices)},
		field{name: "run_options", text: list(t.RunOptions)},
		field{name: "no_new_privileges", text: jsonUnless(!t.NewPrivileges, false)}, // written only to switch it off
	)
	for _, name := range slices.Sorted(maps.Keys(t.Labels)) {
		fields = append(fields, field{name: "labels." + name, text: jsonUnless(false, t.Labels[name])})
	}
	for _, name := range slices.Sorted(maps.Keys(t.Resources.Custom)) {
		fields = append(fields, field{name: "resources.custom." + name, text: jsonUnless(false, t.Resources.Custom[name])})
	}
	return append(fields,
		field{name: "resources.cpus", text: jsonUnless(t.Resources.CPUs == 0, t.Resources.CPUs)},
		field{name: "resources.memory", text: jsonUnless(t.Resources.Memory == 0, t.Resources.Memory)},
		field{name: "resources.pids", text: jsonUnless(t.Resources.PIDs == 0, t.Resources.PIDs)},
		field{name: "sessions", text: jsonUnless(t.Sessions == "", t.Sessions)},
		field{name: "era", text: jsonUnless(t.Era == fleet.EraAuto, t.Era)},
		field{name: "health", text: jsonUnless(!t.Health.Off, "off")},
		field{name: "health.period", text: duration(t.Health.Period)},
		field{name: "health.timeout", text: duration(t.Health.Timeout)},
		field{name: "health.failures", text: jsonUnless(false, t.Health.Failures)},
		field{name: "start_timeout", text: duration(t.StartTimeout)},
		field{name: "stop_grace", text: duration(t.StopGrace)},
		field{name: "drain_timeout", text: jsonUnless(t.DrainTimeout == fleet.DrainCalls, t.DrainTimeout.String())},
	)
}

func duration(d time.Duration) string { return jsonUnless(false, d.String()) }

func list(words []string) string { return jsonUnless(len(words) == 0, words) }

func mounts(all []fleet.Mount) string {
	type mount struct {
		Source   string `json:"source"`
		Target   string `json:"target"`
		ReadOnly bool   `json:"read_only,omitempty"`
		SELinux  string `json:"selinux,omitempty"`
	}
	out := make([]mount, len(all))
	for i, m := range all {
		out[i] = mount(m)
	}
	return jsonUnless(len(out) == 0, out)
}

// jsonUnless returns v as JSON for people to read, or "" if it is absent.
func jsonUnless(absent bool, v any) string {
	if absent {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return "" // NaN or infinite; Apply refuses such a spec
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
