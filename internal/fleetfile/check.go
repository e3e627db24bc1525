package fleetfile

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// commandOrImage checks that there is either a command or an image, and no key
// that the other one needs.
func (d *serverDecoder) commandOrImage() {
	_, image := d.given["image"]
	_, command := d.given["command"]
	switch {
	case image && command:
		d.errorf(d.given["command"], join(d.path, "command"), "a server has either an image or a command; to replace the image's own, use entrypoint and args")
	case !image && !command:
		for _, key := range []string{"url", "serverUrl", "http"} {
			if _, remote := d.given[key]; remote && !d.foreign {
				return // that key is refused as not supported yet, which is enough
			}
		}
		d.malformed(d.node, d.path, "needs an image or a command")
	case command:
		for _, key := range serverShape.order {
			if n, given := d.given[key]; given && serverShape.keys[key].forImages() {
				d.errorf(n, join(d.path, key), "is for images; a command runs as a plain process")
			}
		}
	}
}

// finish fills in and checks the settings that depend on several keys.
func (d *serverDecoder) finish() {
	s := &d.spec
	if s.Image != "" && s.PullPolicy == "" {
		s.PullPolicy = fleet.PullMissing
	}
	d.finishReplicas()
	d.finishSessions()
	if s.MaxCallDuration < s.CallTimeout {
		if n, given := d.given["max_call_duration"]; given {
			d.errorf(n, join(d.path, "max_call_duration"), "must not be shorter than call_timeout, which is %s", s.CallTimeout)
		}
		s.MaxCallDuration = s.CallTimeout // the default for a long timeout
	}
	if s.Cwd != "" && !filepath.IsAbs(s.Cwd) {
		if s.Image != "" {
			d.errorf(d.given["cwd"], join(d.path, "cwd"), "must be an absolute path in the image")
			return
		}
		if d.literal {
			d.errorf(d.given["cwd"], join(d.path, "cwd"), "must be an absolute path")
			return
		}
		s.Cwd = d.absolute(s.Cwd)
	}
	d.resolveRelative()
	d.checkTools()
	d.checkContainerEnv()
	d.checkRunOptions()
}

// checkRunOptions refuses options that contradict each other or other keys. In a
// docker run line it drops those that docker accepts without effect, and that
// podman refuses.
func (d *serverDecoder) checkRunOptions() {
	if d.fromRun {
		d.spec.RunOptions = slices.DeleteFunc(d.spec.RunOptions, func(option string) bool {
			name, _, _ := strings.Cut(option, "=")
			noEffect := name == "--shm-size" && d.spec.OwnsNoSharedMemory() || strings.HasPrefix(name, "--dns") && d.spec.Network == "none"
			if noEffect {
				d.drop(strings.TrimLeft(name, "-"))
			}
			return noEffect
		})
	}
	for _, option := range d.spec.RunOptions {
		if fleet.CheckRunOption(option) != nil {
			return // reported already, with its position
		}
	}
	if err := d.spec.CheckRunOptions(); err != nil {
		key := "run_options"
		if d.fromRun {
			key = "args"
		}
		d.errorf(cmp.Or(d.given[key], d.node), join(d.path, key), "%s", err)
	}
}

// checkContainerEnv refuses variables that podman cannot pass to a container.
func (d *serverDecoder) checkContainerEnv() {
	if d.spec.Image == "" {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(d.spec.Env)) {
		if err := fleet.CheckContainerEnv(name, d.spec.Env[name]); err != nil && badEnvName(name) == "" {
			d.errorf(cmp.Or(d.given["env"], d.node), join(d.path, "env."+name), "%s", err)
		}
	}
}
