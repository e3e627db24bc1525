package fleetfile

import (
	"fmt"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// runOption is a supported option of `docker run` or `podman run`.
type runOption struct {
	names []string // without hyphens
	flag  bool     // takes no value, or a boolean after "="
	apply func(d *serverDecoder, it item, name, value string)
}

// runOptions returns the table of options. It has all options of docker run and
// podman run except --privileged, --pid, --volumes-from and the like, which
// mcpfleet cannot honour. Those are errors.
func runOptions() []runOption {
	type decode = func(d *serverDecoder, it item, v string)
	take := func(apply decode, names ...string) runOption {
		return runOption{names: names, apply: func(d *serverDecoder, it item, _, v string) { apply(d, it, v) }}
	}
	word := func(field func(*fleet.Spec) *string) decode {
		return func(d *serverDecoder, it item, v string) { d.runWord(it, v, field(&d.spec)) }
	}
	flag := func(apply decode, names ...string) runOption {
		o := take(apply, names...)
		o.flag = true
		return o
	}
	// Options about names, logs, attaching and removal of the client's own
	// container. mcpfleet decides these for its replicas.
	ours := func(*serverDecoder, item, string) {}
	// Options without effect here are listed in a warning.
	idle := func(d *serverDecoder, _ item, name, _ string) { d.drop(name) }
	return []runOption{
		take((*serverDecoder).runEnv, "e", "env"),
		take((*serverDecoder).runEnvFile, "env-file"),
		take(func(d *serverDecoder, it item, v string) { d.runVolume(it, v) }, "v", "volume"),
		take((*serverDecoder).runMount, "mount"),
		take(word(func(s *fleet.Spec) *string { return &s.Network }), "network", "net"),
		take(word(func(s *fleet.Spec) *string { return &s.User }), "u", "user"),
		take(func(d *serverDecoder, _ item, v string) { d.spec.Cwd = v }, "w", "workdir"),
		take(func(d *serverDecoder, it item, v string) {
			var word string
			if d.runWord(it, v, &word); word != "" {
				d.spec.Entrypoint = []string{word}
			}
		}, "entrypoint"),
		take(func(d *serverDecoder, it item, v string) {
			size, err := ParseSize(v)
			if err != nil || size < resourcesShape.keys["memory"].low {
				d.errorf(it.node, it.path, "--memory must be %s, and at least 6m", wantSize)
				return
			}
			d.spec.Resources.Memory = size
		}, "m", "memory"),
		take(func(d *serverDecoder, it item, v string) {
			cpus, err := parseCPUs(v)
			if err != nil {
				d.errorf(it.node, it.path, "--cpus must be %s", wantCPUs)
				return
			}
			d.spec.Resources.CPUs = cpus
		}, "cpus"),
		take(func(d *serverDecoder, it item, v string) {
			var n int64
			if _, err := fmt.Sscanf(v, "%d", &n); err != nil || fmt.Sprint(n) != v || n < -1 {
				d.errorf(it.node, it.path, "--pids-limit must be a whole number, or -1 for no limit")
				return
			}
			if n > resourcesShape.keys["pids"].high {
				n = 0
			}
			d.spec.Resources.PIDs = max(n, 0) // -1, 0, and numbers beyond Linux's maximum mean no limit
		}, "pids-limit"),
		take(func(d *serverDecoder, it item, v string) { d.runCapability(it, "--cap-add", v, &d.capAdd) }, "cap-add"),
		take(func(d *serverDecoder, it item, v string) { d.runCapability(it, "--cap-drop", v, &d.capDrop) }, "cap-drop"),
		take(func(d *serverDecoder, it item, v string) {
			switch policy := fleet.PullPolicy(v); policy {
			case fleet.PullMissing, fleet.PullAlways, fleet.PullNever:
				d.spec.PullPolicy = policy
			case "newer": // podman's
				d.spec.PullPolicy = fleet.PullAlways
			default:
				d.errorf(it.node, it.path, "--pull must be missing, always or never")
			}
		}, "pull"),
		flag(func(d *serverDecoder, _ item, v string) { d.spec.ReadOnly = v != "false" }, "read-only"),
		take(func(d *serverDecoder, it item, v string) {
			switch strings.ReplaceAll(v, "=", ":") {
			case "no-new-privileges", "no-new-privileges:true":
				d.spec.NewPrivileges = false
			case "no-new-privileges:false":
				d.spec.NewPrivileges = true
			default:
				d.runPassed(it, "security-opt", v)
			}
		}, "security-opt"),
		take(func(d *serverDecoder, it item, v string) {
			// Docker also accepts an equals sign between the two, and brackets.
			if name, address, ok := strings.Cut(v, "="); ok && !strings.Contains(name, ":") {
				v = name + ":" + address
			}
			if name, address, _ := strings.Cut(v, ":"); strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
				v = name + ":" + address[1:len(address)-1]
			}
			if strings.HasSuffix(v, ":"+fleet.HostGateway) {
				d.drop("--add-host NAME:host-gateway, as podman calls the host host.containers.internal")
				return
			}
			d.runPassed(it, "add-host", v)
		}, "add-host"),
		{names: fleet.RunOptionNames(), apply: (*serverDecoder).runPassed},
		take(func(d *serverDecoder, it item, v string) { d.runPassed(it, "hostname", v) }, "h"),
		take(func(d *serverDecoder, it item, v string) { d.runPassed(it, "dns-option", v) }, "dns-opt"),

		flag(ours, "i", "interactive", "rm", "t", "tty", "init", "q", "quiet", "sig-proxy", "no-healthcheck", "replace", "d", "detach", "rmi",
			"disable-content-trust", "http-proxy", "help"),
		take(ours, "a", "attach", "name", "l", "label", "label-file", "annotation", "log-driver", "log-opt", "restart", "cidfile", "pidfile", "conmon-pidfile",
			"detach-keys", "sdnotify", "stop-timeout", "init-path", "retry", "retry-delay",
			"health-cmd", "health-interval", "health-retries", "health-start-interval", "health-start-period", "health-timeout", "health-on-failure",
			"health-log-destination", "health-max-log-count", "health-max-log-size",
			"health-startup-cmd", "health-startup-interval", "health-startup-retries", "health-startup-success", "health-startup-timeout"),
		{names: []string{"P", "publish-all", "oom-kill-disable", "tls-verify", "no-hosts", "no-hostname", "use-api-socket", "read-only-tmpfs", "passwd", "env-host"},
			flag: true, apply: idle},
		{names: []string{
			"p", "publish", "expose", "platform", "arch", "os", "variant", "link", "link-local-ip", "network-alias", "net-alias", "ip", "ip6", "mac-address", "domainname",
			"isolation", "runtime", "storage-opt", "volume-driver", "cgroup-parent", "cgroups", "cgroup-conf", "kernel-memory", "memory-swap", "memory-swappiness", "gpus",
			"stop-signal", "blkio-weight", "blkio-weight-device", "cpu-count", "cpu-percent", "cpu-rt-period", "cpu-rt-runtime", "device-read-bps",
			"device-read-iops", "device-write-bps", "device-write-iops", "io-maxbandwidth", "io-maxiops", "image-volume", "systemd", "unsetenv", "authfile",
			"creds", "cert-dir", "c", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems", "cgroupns", "device-cgroup-rule", "memory-reservation",
			"oom-score-adj", "tz", "umask", "uts", "timeout", "shm-size-systemd", "seccomp-policy", "hosts-file", "passwd-entry", "group-entry", "hostuser", "personality",
		}, apply: idle},
	}
}
