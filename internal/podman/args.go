package podman

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The labels of a container. Some are set as annotations too, because the OCI
// runtime keeps annotations in its state and labels nowhere.
const (
	labelCluster  = "mcpfleet.cluster"
	labelNode     = "mcpfleet.node"
	labelReplica  = "mcpfleet.replica"
	labelServer   = "mcpfleet.server"
	labelRevision = "mcpfleet.revision"
	labelOwner    = "mcpfleet.owner"
)

// creation is the command of one podman run.
type creation struct {
	args    []string // after "run"
	env     []string // of the client, for its --env=NAME
	envFile []byte   // content of the --env-file; nil: there is no such file
}

// containerName returns the name of a replica's container.
func containerName(l fleet.Launch) string {
	return "mcpfleet-" + nameable(string(l.Cluster)) + "-" + nameable(string(l.Node)) + "-" + nameable(string(l.Replica))
}

// nameable replaces what podman does not allow in a name.
func nameable(s string) string {
	if s == "" {
		return "none"
	}
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' {
			return c
		}
		return '-'
	}, s)
}

// leastCPUs is the smallest CPU limit that Linux accepts. A replica may reserve
// less.
const leastCPUs = 0.01

// create returns the podman command of a launch. Values are always written as
// --option=value, so that no value is taken for an option.
func (r *Runtime) create(l fleet.Launch, rec record, rootfs string) (creation, error) {
	t := l.Template
	if rootfs == "" {
		if err := checkImage(t); err != nil {
			return creation{}, err
		}
	}
	var c creation
	add := func(option, value string) { c.args = append(c.args, "--"+option+"="+value) }

	if r.mode.relay {
		c.args = append(c.args, "--interactive")
		add("log-driver", "none")
	} else {
		c.args = append(c.args, "--detach", "--interactive")
		add("log-driver", "passthrough")
	}
	add("name", rec.name)
	add("cidfile", rec.cidFile())
	if !r.mode.remote {
		add("pidfile", rec.pidFile())
		add("conmon-pidfile", rec.conmonFile())
	}
	for _, kv := range [][2]string{
		{labelCluster, string(l.Cluster)},
		{labelNode, string(l.Node)},
		{labelReplica, string(l.Replica)},
		{labelServer, string(l.Server)},
		{labelRevision, strconv.FormatUint(uint64(l.Revision), 10)},
		{labelOwner, r.owner.String()},
	} {
		add("label", kv[0]+"="+kv[1])
	}
	add("annotation", labelNode+"="+string(l.Node))
	add("annotation", labelOwner+"="+r.owner.String())

	add("pull", "never") // ensure has pulled it, in a way that can be cancelled
	add("http-proxy", "false")
	c.args = append(c.args, "--no-healthcheck") // we ping the server instead
	if r.mode.init {
		c.args = append(c.args, "--init")
	}
	if !slices.Contains(t.CapAdd, "ALL") { // podman refuses the combination
		add("cap-drop", "all")
	}
	for _, name := range t.CapAdd {
		add("cap-add", name)
	}
	for _, device := range t.Devices {
		if err := fleet.CheckDevice(device); err != nil {
			return creation{}, fmt.Errorf("devices: %q: %w", device, err)
		}
		add("device", device)
	}
	if !t.NewPrivileges {
		add("security-opt", "no-new-privileges")
	}
	if t.Resources.Memory > 0 {
		// Equal limits allow no swap, with which a replica could use twice its memory.
		bytes := strconv.FormatInt(t.Resources.Memory, 10) + "b"
		add("memory", bytes)
		add("memory-swap", bytes)
	}
	if t.Resources.CPUs > 0 {
		add("cpus", strconv.FormatFloat(max(t.Resources.CPUs, leastCPUs), 'f', -1, 64))
	}
	if t.Resources.PIDs > 0 {
		add("pids-limit", strconv.FormatInt(t.Resources.PIDs, 10))
	}
	if t.ReadOnly {
		c.args = append(c.args, "--read-only")
	}
	if t.User != "" {
		add("user", t.User)
	}
	if t.Cwd != "" {
		add("workdir", t.Cwd)
	}
	if t.Network != "" {
		add("network", t.Network)
	}
	if err := t.CheckRunOptions(); err != nil {
		return creation{}, fmt.Errorf("run_options: %w", err)
	}
	c.args = append(c.args, t.RunOptions...)
	for _, m := range t.Mounts {
		arg, err := mountArg(m)
		if err != nil {
			return creation{}, err
		}
		c.args = append(c.args, arg)
	}
	if t.Entrypoint != nil {
		words := ""
		if len(t.Entrypoint) > 0 {
			b, err := json.Marshal(t.Entrypoint)
			if err != nil {
				return creation{}, fmt.Errorf("entrypoint: %w", err)
			}
			words = string(b)
		}
		add("entrypoint", words)
	}
	if err := c.setEnv(t.Env, rec); err != nil {
		return creation{}, err
	}
	if rootfs != "" {
		c.args = append(c.args, "--rootfs", rootfs)
	} else {
		c.args = append(c.args, t.Image)
	}
	c.args = append(c.args, t.Args...)
	for _, a := range c.args {
		if strings.ContainsRune(a, 0) {
			return creation{}, errors.New("a NUL byte in a value of the spec")
		}
	}
	return c, nil
}

// checkImage returns an error unless podman would read the template's image as
// the name of an image.
func checkImage(t *fleet.Template) error {
	switch {
	case t.Image == "" && len(t.Command) > 0:
		return fmt.Errorf("command %q needs the process runtime: this node runs images only (--runtime podman)", t.Command[0])
	case t.Image == "":
		return errors.New("no image to run")
	}
	if err := fleet.CheckImage(t.Image); err != nil {
		return fmt.Errorf("image %q: %w", t.Image, err)
	}
	return nil
}

// mountArg returns a mount as an argument of podman. A source without a slash
// names a volume. Podman makes a missing volume, and this package never removes
// one.
func mountArg(m fleet.Mount) (string, error) {
	if err := m.Check(); err != nil {
		return "", fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
	}
	var options []string
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if m.SELinux != "" {
		options = append(options, m.SELinux)
	}
	arg := "--volume=" + m.Source + ":" + m.Target
	if len(options) > 0 {
		arg += ":" + strings.Join(options, ",")
	}
	return arg, nil
}

// setEnv passes on the server's env. Values are secrets, so they never appear on
// the command line: they go through the client's environment (--env=NAME).
// Variables that podman itself would act on go through a file, which is deleted
// as soon as the client has ended.
func (c *creation) setEnv(env map[string]string, rec record) error {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		value := env[name]
		if err := fleet.CheckContainerEnv(name, value); err != nil {
			return fmt.Errorf("env: %q: %w", name, err)
		}
		if !fleet.SteersPodman(name) {
			c.args = append(c.args, "--env="+name)
			c.env = append(c.env, name+"="+value)
			continue
		}
		c.envFile = fmt.Appendf(c.envFile, "%s=%s\n", name, value)
	}
	if c.envFile != nil {
		c.args = append(c.args, "--env-file="+rec.envFile())
	}
	return nil
}
