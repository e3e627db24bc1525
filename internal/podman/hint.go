package podman

import (
	"slices"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// hint returns advice for the operator about a failure, or "" if the failure is
// unknown. said is what podman or the container wrote, and code its exit code.
func hint(t *fleet.Template, said string, code int) string {
	low := strings.ToLower(said)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(low, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("no space left on device"):
		return "a file system of this node is full"
	case has("no logs from conmon"):
		return "the container's monitor (conmon) was killed during the start"
	case has("failed to find plugin"):
		return "podman lacks its network plugins: install netavark, or containernetworking-plugins"
	case has("could not find slirp4netns"):
		return "podman lacks slirp4netns, which gives ordinary users a network: install it"
	case has("statfs ") && has("no such file or directory") && len(t.Mounts) > 0:
		return "the source of a mount does not exist on this node: create it on every node that the server may run on, or place the server with labels"
	case has("unresolvable cdi devices"), has("no such file or directory") && slices.ContainsFunc(t.Devices, func(d string) bool {
		path, _, _ := strings.Cut(d, ":")
		return has("stat " + strings.ToLower(path) + ":")
	}):
		return "a device does not exist on this node: place the server with labels or resources.custom where its devices are"
	case has("short-name", "unqualified-search registries"):
		return "write the image's name in full, as docker.io/..."
	case has("unauthorized", "authentication required", "access denied", "denied: requested"):
		return "the registry asks for credentials: see the worker's registry authfile"
	case has("unable to find user", "unable to find group", "no matching entries in passwd", "no matching entries in group"):
		return "the image has no such user or group: set user to numbers, such as 1000:1000"
	case has("setting rlimit"):
		return "the worker is not allowed to raise this limit: see --ulimit"
	case code == 127, has("executable file not found", "command that was not found"), has("failed to exec pid1") && has("no such file"):
		return "the image has no such command: see entrypoint and args; it may also be a script with Windows line endings"
	case code == 126, has("failed to exec pid1") && has("permission denied"):
		return "the image's command cannot be run: it is not executable, or built for another architecture"
	case has("exec format error"):
		return "the image is built for another architecture"
	case has("apply caps", "apply capabilities"):
		return "the worker itself lacks a capability that the server asks for: see cap_add; a docker run line asks for docker's default capabilities"
	case has("read-only file system") && t.ReadOnly:
		return "read_only is set and the server writes"
	case has("no new privileges", "must be setuid root", "effective uid is not 0"):
		return "the image's command tries to gain privileges, which no-new-privileges forbids"
	case has("operation not permitted", "cannot set groups", "setgroups", "setresuid", "setuid:", "setgid:", "su-exec", "gosu", "su: ", "chown") &&
		has("permitted", "denied", "cannot set", "failed"):
		return "all capabilities are dropped; an entrypoint that uses su or chown needs cap_add, e.g. [CHOWN, SETUID, SETGID]"
	case has("permission denied", "eacces") && !slices.Contains(t.CapAdd, "DAC_OVERRIDE") && !slices.Contains(t.CapAdd, "ALL"):
		return "all capabilities are dropped, so root in the image cannot use other users' files" + mounted(t) +
			", as it can with docker run; set cap_add: [DAC_OVERRIDE], or user: to their owner"
	}
	return ""
}

// mounted names the mounts of a server, which are the files that it most likely
// cannot read.
func mounted(t *fleet.Template) string {
	if len(t.Mounts) == 0 {
		return ""
	}
	targets := make([]string, len(t.Mounts))
	for i, m := range t.Mounts {
		targets[i] = m.Target
	}
	return " (perhaps those under " + strings.Join(targets, " and ") + ")"
}

func withHint(s, hint string) string {
	if hint == "" {
		return s
	}
	return s + " (" + hint + ")"
}
