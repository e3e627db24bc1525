package fleetfile

import (
	"slices"
	"strings"
)

// capabilityNames are the capabilities of Linux, sorted. Podman refuses others.
var capabilityNames = []string{
	"AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER",
	"FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE",
	"NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE",
	"SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}

// dockerCapabilities are those that docker run gives a container by default,
// sorted.
var dockerCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
	"SYS_CHROOT",
}

// allCapabilities stands for all capabilities.
const allCapabilities = "ALL"

// parseCapability parses CHOWN, cap_chown and the like, and ALL.
func parseCapability(s string) (string, bool) {
	name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
	if name == allCapabilities {
		return name, strings.EqualFold(s, allCapabilities)
	}
	return name, slices.Contains(capabilityNames, name)
}

// runCapabilities returns the capabilities that docker run gives with these
// options.
func runCapabilities(add, drop []string) []string {
	has := dockerCapabilities
	switch {
	case slices.Contains(add, allCapabilities) && len(drop) == 0:
		return []string{allCapabilities}
	case slices.Contains(add, allCapabilities):
		has = capabilityNames
	case slices.Contains(drop, allCapabilities):
		has = nil
	}
	var out []string
	for _, name := range capabilityNames {
		if (slices.Contains(has, name) && !slices.Contains(drop, name)) || slices.Contains(add, name) {
			out = append(out, name)
		}
	}
	return out
}
