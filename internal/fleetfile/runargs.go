package fleetfile

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// runArguments returns the arguments after `docker run` in an entry of an MCP
// client's file. It accepts `docker container run`, and options of docker before
// the word run.
func (d *serverDecoder) runArguments() ([]item, bool) {
	if len(d.spec.Command) != 1 {
		return nil, false
	}
	program := strings.TrimSuffix(path.Base(strings.ReplaceAll(d.spec.Command[0], `\`, "/")), ".exe")
	if program != "docker" && program != "podman" {
		return nil, false
	}
	rest := d.args
	var before []string
	for len(rest) > 0 && strings.HasPrefix(rest[0].text, "-") {
		word := rest[0].text
		rest = rest[1:]
		option, _, has := strings.Cut(word, "=")
		before = append(before, program+" "+option)
		if !has && slices.Contains(valuesBeforeRun, option) && len(rest) > 0 {
			rest = rest[1:]
		}
	}
	if len(rest) > 0 && rest[0].text == "container" {
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0].text != "run" {
		return nil, false
	}
	for _, option := range before {
		d.drop(option)
	}
	return rest[1:], true
}

// valuesBeforeRun are the global options of docker and podman that take a value.
var valuesBeforeRun = []string{
	"-c", "--context", "--config", "-H", "--host", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey",
	"--cgroup-manager", "--conmon", "--connection", "--events-backend", "--hooks-dir", "--identity", "--module", "--network-cmd-path", "--root", "--runroot",
	"--runtime", "--runtime-flag", "--ssh", "--storage-driver", "--storage-opt", "--tmpdir", "--url", "--volumepath",
}

// drop adds an option to the warning about options that mean nothing here.
func (d *serverDecoder) drop(option string) {
	if !strings.Contains(option, " ") {
		option = "-" + option
		if len(option) > 2 {
			option = "-" + option
		}
	}
	d.dropped = addNamed(d.dropped, option, d.shown)
}

// containerFromRun converts the arguments of `docker run` to an image with its
// settings. The container gets the capabilities that docker would give it, so
// that servers that work with docker work here. Unsupported options are errors.
func (d *serverDecoder) containerFromRun(rest []item) {
	at := join(d.path, "args")
	if _, both := d.given["image"]; both {
		d.errorf(d.given["image"], join(d.path, "image"), "the image is named in args already")
		return
	}
	// The keys env and cwd apply to the client's docker command itself. Only the
	// variables that -e names reach the container.
	env := d.spec.Env
	d.spec.Command, d.spec.Args, d.spec.Env, d.spec.Cwd = nil, nil, nil, ""
	d.runEnvironment = func(name string) (string, bool) {
		if v, ok := env[name]; ok {
			return v, true
		}
		return d.opts.Lookup(name)
	}
	d.fromRun = true
	if _, given := d.given["no_new_privileges"]; !given {
		d.spec.NewPrivileges = true
	}
	d.capAdd = d.spec.CapAdd
	options := runOptions()
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
	d.spec.CapAdd = runCapabilities(d.capAdd, d.capDrop)
	d.addFileEnv()
	if len(rest) == 0 {
		d.errorf(d.given["args"], at, "run is not given an image")
		return
	}
	if err := fleet.CheckImage(rest[0].text); err != nil {
		d.errorf(rest[0].node, rest[0].path, "%s", err)
		return
	}
	d.spec.Image = rest[0].text
	if len(rest) > 1 {
		d.spec.Args = texts(rest[1:])
	}
	d.given["cwd"] = d.given["args"] // the position of errors about --workdir
}

// runArgument decodes one argument that begins with a hyphen, and the value that
// may follow it. Short options can be combined, including the value of the last
// one.
func (d *serverDecoder) runArgument(options []runOption, it item, rest []item) ([]item, bool) {
	find := func(name string) (runOption, bool) {
		i := slices.IndexFunc(options, func(o runOption) bool { return slices.Contains(o.names, name) })
		if i < 0 {
			return runOption{}, false
		}
		return options[i], true
	}
	// value applies an option with the next argument as its value.
	value := func(opt runOption, name, shown string) bool {
		if len(rest) == 0 {
			d.errorf(it.node, it.path, "the run option %s needs a value", shown)
			return false
		}
		next := rest[0]
		rest = rest[1:]
		opt.apply(d, next, name, next.text)
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
			opt.apply(d, it, name, v)
			return rest, true
		}
		return rest, value(opt, name, "--"+name)
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
				opt.apply(d, it, name, v)
				return rest, true
			}
			opt.apply(d, it, name, "")
		case letters != "":
			opt.apply(d, it, name, strings.TrimPrefix(letters, "="))
			return rest, true
		default:
			return rest, value(opt, name, "-"+name)
		}
	}
	return rest, true
}

// shownOption returns the text for an option in an error. It does not show text
// that may come from a variable.
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

// runCapability decodes one or more capabilities.
func (d *serverDecoder) runCapability(it item, option, value string, list *[]string) {
	for part := range strings.SplitSeq(value, ",") {
		name, ok := parseCapability(part)
		if !ok {
			d.errorf(it.node, it.path, "%s must name a capability, such as CHOWN", option)
			return
		}
		*list = append(*list, name)
	}
}

// runPassed adds an option that podman gets unchanged.
func (d *serverDecoder) runPassed(it item, name, value string) {
	d.addRunOption(it.node, it.path, "--"+name+"="+value)
}

// runOptions decodes the key run_options.
func (d *serverDecoder) runOptions(n *yaml.Node, at string) {
	list, _ := d.items(n, at)
	for _, it := range list {
		d.addRunOption(it.node, it.path, it.text)
	}
}

func (d *serverDecoder) addRunOption(n *yaml.Node, at, option string) {
	switch err := fleet.CheckRunOption(option); {
	case err == nil:
	case strings.Contains(resolve(n).Value, "$"): // err would show the value of the variable
		d.errorf(n, at, "%s is not an option that can be passed on", describe(resolve(n)))
		return
	default:
		d.errorf(n, at, "%s", err)
		return
	}
	d.spec.RunOptions = append(d.spec.RunOptions, option)
}

// runEnv decodes -e NAME=VALUE, or -e NAME with the value from the environment. A
// variable that is not found is not set, as with docker.
func (d *serverDecoder) runEnv(it item, arg string) {
	name, value, has := strings.Cut(arg, "=")
	if badEnvName(name) != "" {
		d.errorf(it.node, it.path, "-e does not begin with a valid name for a variable")
		return
	}
	if !has {
		var found bool
		if value, found = d.runEnvironment(name); !found {
			if d.literal {
				d.errorf(it.node, it.path, "env has no variable %s, and there is no environment to take it from", name)
				return
			}
			d.warnf(it.node, it.path, "neither env nor the environment has a variable %s, so the container gets none", name)
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

// runVolume decodes -v SOURCE:TARGET[:OPTIONS].
func (d *serverDecoder) runVolume(it item, arg string) {
	if path.IsAbs(arg) && !strings.Contains(arg, ":") {
		d.drop("-v PATH, a volume without a name") // it would be removed with the container
		return
	}
	before := len(d.spec.Mounts)
	d.addVolume(it.node, it.path, arg)
	if len(d.spec.Mounts) > before {
		d.volumes = append(d.volumes, boundVolume{d.spec.Mounts[before], resolve(it.node).Value})
	}
}

// boundVolume is a -v of a run command. shown is its text in the file, since the
// value of a variable in it may be secret.
type boundVolume struct {
	mount fleet.Mount
	shown string
}

// checkVolumes adds directories that docker would create to a warning.
func (d *serverDecoder) checkVolumes() {
	for _, v := range d.volumes {
		if d.opts.Stat == nil || v.mount.IsVolume() {
			continue
		}
		if _, err := d.opts.Stat(v.mount.Source); errors.Is(err, fs.ErrNotExist) {
			d.absent = addNamed(d.absent, strconv.Quote(v.shown), d.shown)
		}
	}
}

// runMount decodes --mount type=bind,source=/a,target=/b,readonly.
func (d *serverDecoder) runMount(it item, arg string) {
	var m fleet.Mount
	kind := "volume" // docker's default
	for part := range strings.SplitSeq(arg, ",") {
		key, v, has := strings.Cut(part, "=")
		switch {
		case key == "type" && (v == "bind" || v == "volume" || v == "tmpfs"):
			kind = v
		case key == "source" || key == "src":
			m.Source = v
		case key == "target" || key == "dst" || key == "destination":
			m.Target = v
		case (key == "readonly" || key == "ro") && (!has || v == "true" || v == "1"):
			m.ReadOnly = true
		case (key == "readonly" || key == "ro") && (v == "false" || v == "0"):
		case key == "relabel" && (v == "shared" || v == "private"):
			m.SELinux = map[string]string{"shared": "z", "private": "Z"}[v]
		case slices.Contains([]string{"bind-propagation", "bind-nonrecursive", "consistency", "volume-nocopy", "volume-driver", "volume-opt", "tmpfs-size", "tmpfs-mode"}, key):
			d.drop("--mount " + key)
		default:
			d.errorf(it.node, it.path, "--mount understands type=bind, type=volume, type=tmpfs, source, target and readonly")
			return
		}
	}
	if kind == "tmpfs" {
		d.runPassed(it, "tmpfs", m.Target)
		return
	}
	if kind == "volume" && m.Source == "" {
		d.drop("--mount without a source")
		return
	}
	d.addMount(it.node, it.path, m)
}
