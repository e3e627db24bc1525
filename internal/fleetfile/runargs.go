package fleetfile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// runsContainer tells whether the entry starts a container by itself, as the
// files of MCP clients do: `docker run` with options and an image.
func (d *serverDecoder) runsContainer() bool {
	if len(d.spec.Command) != 1 || len(d.args) == 0 || d.args[0].text != "run" {
		return false
	}
	program := strings.TrimSuffix(path.Base(strings.ReplaceAll(d.spec.Command[0], `\`, "/")), ".exe")
	return program == "docker" || program == "podman"
}

// runOption is one option of `docker run` that is understood.
type runOption struct {
	names []string // without hyphens
	flag  bool     // takes no value, or a boolean one after "="
	apply func(d *serverDecoder, it item, value string)
}

// dropped options are about the client's own container: how it is named and
// logged, attached and removed. mcpfleet decides that for its replicas.
func dropped(_ *serverDecoder, _ item, _ string) {}

// runOptions returns the table of options.
func runOptions() []runOption {
	return []runOption{
		{names: []string{"e", "env"}, apply: (*serverDecoder).runEnv},
		{names: []string{"v", "volume"}, apply: func(d *serverDecoder, it item, v string) { d.addVolume(it.node, it.path, v) }},
		{names: []string{"mount"}, apply: (*serverDecoder).runMount},
		{names: []string{"network", "net"}, apply: func(d *serverDecoder, it item, v string) { d.runWord(it, v, &d.spec.Network) }},
		{names: []string{"u", "user"}, apply: func(d *serverDecoder, it item, v string) { d.runWord(it, v, &d.spec.User) }},
		{names: []string{"w", "workdir"}, apply: func(d *serverDecoder, _ item, v string) { d.spec.Cwd = v }},
		{names: []string{"entrypoint"}, apply: func(d *serverDecoder, it item, v string) {
			var word string
			if d.runWord(it, v, &word); word != "" {
				d.spec.Entrypoint = []string{word}
			}
		}},
		{names: []string{"m", "memory"}, apply: func(d *serverDecoder, it item, v string) {
			size, err := ParseSize(v)
			if err != nil || size < resourcesShape.keys["memory"].low {
				d.errorf(it.node, it.path, "--memory must be %s, and at least 6m", wantSize)
				return
			}
			d.spec.Resources.Memory = size
		}},
		{names: []string{"cpus"}, apply: func(d *serverDecoder, it item, v string) {
			cpus, err := parseCPUs(v)
			if err != nil {
				d.errorf(it.node, it.path, "--cpus must be %s", wantCPUs)
				return
			}
			d.spec.Resources.CPUs = cpus
		}},
		{names: []string{"pids-limit"}, apply: func(d *serverDecoder, it item, v string) {
			var n int64
			if _, err := fmt.Sscanf(v, "%d", &n); err != nil || fmt.Sprint(n) != v || n < 1 {
				d.errorf(it.node, it.path, "--pids-limit must be a whole number above 0")
				return
			}
			d.spec.Resources.PIDs = n
		}},
		{names: []string{"cap-add"}, apply: func(d *serverDecoder, it item, v string) {
			name, ok := parseCapability(v)
			if !ok {
				d.errorf(it.node, it.path, "--cap-add must name a capability, as CHOWN")
				return
			}
			d.spec.CapAdd = append(d.spec.CapAdd, name)
		}},
		{names: []string{"pull"}, apply: func(d *serverDecoder, it item, v string) {
			switch policy := fleet.PullPolicy(v); policy {
			case fleet.PullMissing, fleet.PullAlways, fleet.PullNever:
				d.spec.PullPolicy = policy
			default:
				d.errorf(it.node, it.path, "--pull must be missing, always or never")
			}
		}},
		{names: []string{"read-only"}, flag: true, apply: func(d *serverDecoder, _ item, v string) { d.spec.ReadOnly = v != "false" }},
		{names: []string{"security-opt"}, apply: func(d *serverDecoder, it item, v string) {
			switch strings.ReplaceAll(v, "=", ":") {
			case "no-new-privileges", "no-new-privileges:true":
			case "no-new-privileges:false":
				d.spec.NewPrivileges = true
			default:
				d.errorf(it.node, it.path, "the only --security-opt supported is no-new-privileges")
			}
		}},
		{names: []string{"i", "interactive", "rm", "t", "tty", "init", "q", "quiet", "sig-proxy", "no-healthcheck", "replace"}, flag: true, apply: dropped},
		{names: []string{"a", "attach", "name", "l", "label", "log-driver", "log-opt", "restart", "cap-drop", "cidfile"}, apply: dropped},
	}
}

// containerFromRun turns the arguments of `docker run` into an image with its
// settings, and refuses the options that it cannot keep to.
func (d *serverDecoder) containerFromRun() {
	at := join(d.path, "args")
	if _, both := d.given["image"]; both {
		d.errorf(d.given["image"], join(d.path, "image"), "the image is named in args already")
		return
	}
	// The keys env and cwd are those of the client's own `docker`: of the
	// first, what -e names reaches the container.
	env := d.spec.Env
	d.spec.Command, d.spec.Args, d.spec.Env, d.spec.Cwd = nil, nil, nil, ""
	d.runEnvironment = func(name string) (string, bool) {
		if v, ok := env[name]; ok {
			return v, true
		}
		return d.opts.Lookup(name)
	}
	options := runOptions()
	rest := d.args[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0].text, "-") && rest[0].text != "-" {
		it := rest[0]
		rest = rest[1:]
		if it.text == "--" {
			break
		}
		var ok bool
		if rest, ok = d.runArgument(options, it, rest); !ok {
			return
		}
	}
	if len(rest) == 0 {
		d.errorf(d.given["args"], at, "run is not given an image")
		return
	}
	if rest[0].text == "" || badWord(rest[0].text) != "" {
		d.errorf(rest[0].node, rest[0].path, "must be the name of an image")
		return
	}
	d.spec.Image = rest[0].text
	if len(rest) > 1 {
		d.spec.Args = texts(rest[1:])
	}
	d.given["cwd"] = d.given["args"] // where an error about --workdir points
}

// runArgument takes one argument that begins with a hyphen, and the value that
// may follow it. Short options can be run together, the last one's value too.
func (d *serverDecoder) runArgument(options []runOption, it item, rest []item) ([]item, bool) {
	find := func(name string) (runOption, bool) {
		i := slices.IndexFunc(options, func(o runOption) bool { return slices.Contains(o.names, name) })
		if i < 0 {
			return runOption{}, false
		}
		return options[i], true
	}
	// value gives an option the next argument.
	value := func(opt runOption, shown string) bool {
		if len(rest) == 0 {
			d.errorf(it.node, it.path, "the run option %s needs a value", shown)
			return false
		}
		next := rest[0]
		rest = rest[1:]
		opt.apply(d, next, next.text)
		return true
	}
	if name, long := strings.CutPrefix(it.text, "--"); long {
		name, v, has := strings.Cut(name, "=")
		opt, known := find(name)
		switch {
		case !known || len(name) == 1:
			d.errorf(it.node, it.path, "the run option %s is not supported", d.shownOption(it, "--"+name))
			return rest, false
		case has || opt.flag:
			opt.apply(d, it, v)
			return rest, true
		}
		return rest, value(opt, "--"+name)
	}
	for letters := it.text[1:]; letters != ""; {
		name := letters[:1]
		letters = letters[1:]
		opt, known := find(name)
		switch {
		case !known:
			d.errorf(it.node, it.path, "the run option %s is not supported", d.shownOption(it, "-"+name))
			return rest, false
		case opt.flag:
			if v, has := strings.CutPrefix(letters, "="); has {
				opt.apply(d, it, v)
				return rest, true
			}
			opt.apply(d, it, "")
		case letters != "":
			opt.apply(d, it, strings.TrimPrefix(letters, "="))
			return rest, true
		default:
			return rest, value(opt, "-"+name)
		}
	}
	return rest, true
}

// shownOption names an option in an error, but shows no text that came out of
// a variable.
func (d *serverDecoder) shownOption(it item, name string) string {
	if raw := resolve(it.node).Value; strings.Contains(raw, "$") && !strings.HasPrefix(raw, name) {
		return describe(resolve(it.node))
	}
	return name
}

func (d *serverDecoder) runWord(it item, value string, field *string) {
	if value == "" || badWord(value) != "" {
		d.errorf(it.node, it.path, "must be one word, not %s", describe(resolve(it.node)))
		return
	}
	*field = value
}

// runEnv takes -e NAME=VALUE, or -e NAME with the value from around it.
func (d *serverDecoder) runEnv(it item, arg string) {
	name, value, has := strings.Cut(arg, "=")
	if badEnvName(name) != "" {
		d.errorf(it.node, it.path, "-e does not begin with a name that a variable can have")
		return
	}
	if !has {
		var found bool
		if value, found = d.runEnvironment(name); !found {
			d.errorf(it.node, it.path, "neither env nor the environment has a variable %s", name)
			return
		}
	}
	if why := badText(value); why != "" {
		d.errorf(it.node, it.path, "the value of %s %s", name, why)
		return
	}
	if d.spec.Env == nil {
		d.spec.Env = map[string]string{}
	}
	d.spec.Env[name] = value // the last one counts, as with docker
}

// runMount takes --mount type=bind,source=/a,target=/b,readonly.
func (d *serverDecoder) runMount(it item, arg string) {
	var m fleet.Mount
	for part := range strings.SplitSeq(arg, ",") {
		key, v, has := strings.Cut(part, "=")
		switch {
		case key == "type" && (v == "bind" || v == "volume"):
		case key == "source" || key == "src":
			m.Source = v
		case key == "target" || key == "dst" || key == "destination":
			m.Target = v
		case (key == "readonly" || key == "ro") && (!has || v == "true" || v == "1"):
			m.ReadOnly = true
		default:
			d.errorf(it.node, it.path, "--mount understands type=bind, type=volume, source, target and readonly")
			return
		}
	}
	d.addMount(it.node, it.path, m)
}
