package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// runOptions are the options of podman run that a spec may have in RunOptions.
// Everything else is either a key of its own, or would take a replica out of
// the worker's hands.
var runOptions = []string{
	"add-host", "cgroupns", "cpu-period", "cpu-quota", "cpu-shares", "cpuset-cpus", "cpuset-mems", "device", "device-cgroup-rule",
	"dns", "dns-option", "dns-search", "group-add", "hostname", "ipc", "memory-reservation", "oom-score-adj", "security-opt", "shm-size", "sysctl", "tmpfs",
	"tz", "ulimit", "umask", "userns", "uts",
}

// HostGateway is docker's word for the address of a container's host.
const HostGateway = "host-gateway"

// RunOptionNames returns the names of all options that CheckRunOption allows.
func RunOptionNames() []string { return slices.Clone(runOptions) }

// CheckRunOption returns what is wrong with one of RunOptions, or nil. Package
// fleetfile accepts what it accepts, and package podman passes that on.
func CheckRunOption(option string) error {
	name, value, has := strings.Cut(strings.TrimPrefix(option, "--"), "=")
	switch {
	case !strings.HasPrefix(option, "--") || !has || value == "":
		return errors.New("must be --name=value, as --shm-size=1g")
	case !slices.Contains(runOptions, name):
		return fmt.Errorf("--%s is not one of the options that can be passed on: %s", name, strings.Join(runOptions, " "))
	case strings.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("the value of --%s must not contain line ends", name)
	case name == "add-host" && strings.HasSuffix(value, ":"+HostGateway):
		return errors.New("podman does not know host-gateway; containers reach their host as host.containers.internal")
	case name == "security-opt" && strings.HasPrefix(value, "no-new-privileges"):
		return errors.New("--security-opt=no-new-privileges is the key no_new_privileges")
	}
	return nil
}
