package fleetfile

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// laterServerKeys are keys of coming versions, which are not reported as typing
// errors.
var laterServerKeys = []string{
	"access", "allow", "auth", "cap_drop", "deny", "env_file", "envFile", "headers", "idle_timeout",
	"oauth", "placement", "privileged", "rate_limit", "rate_limits", "retry", "revision", "rollback",
	"scopes", "secrets", "session", "session_idle_timeout", "tenants", "tls", "transport",
	"url", "http", "serverUrl", "zones",
}

// server decodes one entry. It returns false for a server that is switched off or
// remote. If there are errors, the spec may be incomplete; it is not used then.
func (p *parser) server(e entry, path, shown string, foreign bool) (fleet.Spec, bool) {
	entries, ok := p.mapping(e.value, path)
	if !ok {
		return fleet.Spec{}, false
	}
	if foreign {
		entries = withValue(entries)
	}
	d := &serverDecoder{parser: p, node: e.value, path: path, shown: shown, given: map[string]*yaml.Node{}, spec: defaults()}
	for _, e := range entries {
		d.given[e.key] = e.value
	}
	p.foreign = foreign
	defer func() { p.foreign = false }()
	if foreign {
		entries = d.commandMapping(entries)
		before := len(p.errs)
		if d.off() || len(p.errs) > before {
			return fleet.Spec{}, false
		}
		if d.isRemote() {
			p.remote = append(p.remote, remoteEntry{name: shown, path: path, node: e.keyNode})
			return fleet.Spec{}, false
		}
	}
	before := len(p.errs)
	for _, e := range entries {
		d.key(e)
	}
	d.addFileEnv()
	if run, ok := d.runArguments(); ok {
		d.containerFromRun(run)
	} else {
		d.commandOrImage()
	}
	d.finish()
	if len(p.errs) == before { // otherwise the server is left out
		d.checkConcurrency()
		d.checkVolumes()
	}
	return d.spec, true
}

// serverDecoder decodes one server.
type serverDecoder struct {
	*parser
	node  *yaml.Node
	path  string
	shown string                // the server's name in the file
	given map[string]*yaml.Node // the keys that are present
	spec  fleet.Spec
	args  []item
	// envOfFiles are the variables of files that the fleet file names.
	envOfFiles map[string]string
	// runEnvironment returns the value for -e NAME of a run command.
	runEnvironment  func(name string) (string, bool)
	auto            bool     // replicas is the word auto
	fromRun         bool     // the server is a run command
	capAdd, capDrop []string // of a run command
	volumes         []boundVolume
}

// defaults returns the spec for which the file sets no keys.
func defaults() fleet.Spec {
	return fleet.Spec{
		Replicas:           fleet.DefaultReplicas,
		MaxOngoingRequests: fleet.DefaultMaxOngoing,
		MaxQueuedRequests:  fleet.DefaultMaxQueued,
		CallTimeout:        fleet.DefaultCallTimeout,
		MaxCallDuration:    fleet.DefaultMaxCallDuration,
		Template: fleet.Template{
			Sessions: fleet.SessionsShared,
			Health: fleet.Health{
				Period:   fleet.DefaultHealthPeriod,
				Timeout:  fleet.DefaultHealthTimeout,
				Failures: fleet.DefaultHealthFailures,
			},
			StartTimeout: fleet.DefaultStartTimeout,
			StopGrace:    fleet.DefaultStopGrace,
			DrainTimeout: fleet.DrainCalls,
		},
	}
}

// set returns a function that stores a decoded value if it is valid.
func set[T any](field *T) func(T, bool) {
	return func(v T, ok bool) {
		if ok {
			*field = v
		}
	}
}

func setInt(field *int) func(int64, bool) {
	return func(v int64, ok bool) {
		if ok {
			*field = int(v)
		}
	}
}

// key decodes one key.
func (d *serverDecoder) key(e entry) {
	n, at, s, k := e.value, join(d.path, e.key), &d.spec, serverShape.keys[e.key]
	switch e.key {
	case "image":
		set(&s.Image)(d.image(n, at))
	case "command":
		set(&s.Command)(d.command(n, at))
	case "entrypoint":
		set(&s.Entrypoint)(d.command(n, at))
	case "args":
		set(&d.args)(d.items(n, at))
		if len(d.args) > 0 {
			s.Args = texts(d.args)
		}
	case "env":
		s.Env = d.env(n, at)
	case "cwd":
		set(&s.Cwd)(d.str(n, at))
	case "mounts":
		d.mounts(n, at)
	case "network":
		set(&s.Network)(d.word(n, at))
	case "user":
		set(&s.User)(d.user(n, at))
	case "read_only":
		set(&s.ReadOnly)(d.boolean(n, at))
	case "cap_add":
		d.capabilities(n, at)
	case "no_new_privileges":
		if v, ok := d.boolean(n, at); ok {
			s.NewPrivileges = !v
		}
	case "labels":
		d.labels(n, at)
	case "default_tool":
		set(&s.DefaultTool)(d.str(n, at))
	case "tools":
		d.serverTools(e, at)
	case "enabled_tools":
		d.toolNames(n, at, &s.EnabledTools)
	case "disabled_tools":
		d.toolNames(n, at, &s.DisabledTools)
	case "run_options":
		d.runOptions(n, at)
	case "devices":
		d.devices(n, at)
	case "replicas":
		d.replicas(n, at, k)
	case "autoscaling":
		d.autoscaling(n, at)
	case "update":
		d.update(n, at)
	case "warm":
		setInt(&s.Warm)(d.integer(n, at, k))
	case "max_replicas_per_node":
		setInt(&s.MaxReplicasPerNode)(d.integer(n, at, k))
	case "resources":
		d.resources(n, at)
	case "max_ongoing_requests":
		setInt(&s.MaxOngoingRequests)(d.integer(n, at, k))
	case "max_queued_requests":
		setInt(&s.MaxQueuedRequests)(d.integer(n, at, k))
	case "max_request_bytes":
		if size, ok := d.size(n, at, k); ok && size != fleet.DefaultMaxRequestBytes {
			s.MaxRequestBytes = size
		}
	case "call_timeout":
		set(&s.CallTimeout)(d.duration(n, at, k))
	case "max_call_duration":
		set(&s.MaxCallDuration)(d.duration(n, at, k))
	case "sessions", "max_sessions", "max_sessions_per_principal", "session_idle", "session_lifetime", "on_loss":
		d.sessionKey(e.key, n, at, k)
	case "era":
		if v, ok := d.choice(n, at, k); ok && v != "auto" {
			s.Era = fleet.Era(v)
		}
	case "health":
		d.health(n, at)
	case "pull_policy":
		if v, ok := d.choice(n, at, k); ok {
			s.PullPolicy = fleet.PullPolicy(v)
		}
	case "start_timeout":
		set(&s.StartTimeout)(d.duration(n, at, k))
	case "stop_grace":
		set(&s.StopGrace)(d.duration(n, at, k))
	case "drain_timeout":
		set(&s.DrainTimeout)(d.duration(n, at, k))
	default:
		if d.foreign {
			d.clientKey(e)
			return
		}
		d.unknownServerKey(e)
	}
}

// unknownServerKey refuses an unknown key. If it belongs to a section, the error says
// so.
func (d *serverDecoder) unknownServerKey(e entry) {
	section := ""
	switch {
	case autoscalingShape.has(e.key):
		section = "autoscaling"
	case updateShape.has(e.key):
		section = "update"
	default:
		d.unknownKey(e, d.path, serverShape.order, laterServerKeys)
		return
	}
	d.malformed(e.keyNode, join(d.path, e.key), "unknown key; did you mean %s?", join(section, e.key))
}

// image decodes the name of an image.
func (d *serverDecoder) image(n *yaml.Node, at string) (string, bool) {
	image, ok := d.word(n, at)
	if !ok {
		return "", false
	}
	if err := fleet.CheckImage(image); err != nil {
		d.errorf(n, at, "%s", err)
		return "", false
	}
	return image, true
}

func (d *serverDecoder) env(n *yaml.Node, at string) map[string]string {
	env, ok := d.pairs(n, at, func(name string) (string, error) {
		v, found := d.opts.Lookup(name)
		if !found {
			return "", d.missing(name)
		}
		if why := badText(v); why != "" {
			return "", errors.New("the variable's value " + why)
		}
		return v, nil
	})
	if !ok || len(env) == 0 {
		return nil
	}
	if d.foreign && !d.literal {
		d.wholeVariables(n, at, env)
	}
	for name := range env {
		d.checkEnvName(n, at, name)
	}
	return env
}

// checkEnvName refuses an invalid name. In a list it does not show the name, which
// may be a misplaced value.
func (d *serverDecoder) checkEnvName(n *yaml.Node, at, name string) {
	switch why := badEnvName(name); {
	case why == "":
	case resolve(n).Kind == yaml.MappingNode:
		d.errorf(keyNode(n, name), join(at, name), "%s", why)
	default:
		d.errorf(n, at, "an item does not begin with a valid name for a variable")
	}
}

func (d *serverDecoder) user(n *yaml.Node, at string) (string, bool) {
	if s, ok := d.text(n, at, "a user, such as 1000:1000"); ok { // also a number
		if why := badWord(s); why != "" || s == "" {
			d.errorf(n, at, "must be a user, such as 1000:1000")
			return "", false
		}
		return s, true
	}
	return "", false
}

func (d *serverDecoder) capabilities(n *yaml.Node, at string) {
	list, ok := d.items(n, at)
	if !ok {
		return
	}
	for _, it := range list {
		name, ok := parseCapability(it.text)
		if !ok {
			d.errorf(it.node, it.path, "must be a capability, such as CHOWN, or ALL, not %s", describe(resolve(it.node)))
			continue
		}
		d.spec.CapAdd = append(d.spec.CapAdd, name)
	}
}

func (d *serverDecoder) devices(n *yaml.Node, at string) {
	list, ok := d.items(n, at)
	if !ok {
		return
	}
	for _, it := range list {
		if err := fleet.CheckDevice(it.text); err != nil {
			d.errorf(it.node, it.path, "%s", err)
			continue
		}
		d.spec.Devices = append(d.spec.Devices, it.text)
	}
}

func (d *serverDecoder) labels(n *yaml.Node, at string) {
	labels, ok := d.pairs(n, at, func(name string) (string, error) { return "", fmt.Errorf("needs a value, such as %s=value", name) })
	if !ok {
		return
	}
	for name := range labels {
		if name == "" || badWord(name) != "" {
			d.errorf(n, at, "the name of a label must be one word")
			return
		}
	}
	if len(labels) > 0 {
		d.spec.Labels = labels
	}
}
