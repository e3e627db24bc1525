package fleet

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// runOptions are the options of podman run that RunOptions may have, and the form of
// their values. Other options either have a key of their own, or would take the
// control of a replica from the worker.
var runOptions = map[string]struct {
	form *regexp.Regexp
	want string
}{
	"add-host":     {regexp.MustCompile(`^[^:\s]+:[0-9a-fA-F.:]+$`), "a name and an address, as db:10.0.0.7"},
	"device":       {regexp.MustCompile(`^[^\s]+$`), "a device, as /dev/dri"},
	"dns":          {regexp.MustCompile(`^[0-9a-fA-F.:]+$`), "an address"},
	"dns-option":   {regexp.MustCompile(`^[^\s]+$`), "an option of resolv.conf, as ndots:1"},
	"dns-search":   {regexp.MustCompile(`^[^\s]+$`), "a domain"},
	"group-add":    {regexp.MustCompile(`^[^-\s][^\s]*$`), "a group"},
	"hostname":     {regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.-]{0,62}$`), "a host name"},
	"ipc":          {regexp.MustCompile(`^(host|none|private|shareable)$`), "host, none, private or shareable"},
	"security-opt": {regexp.MustCompile(`^(seccomp|apparmor|label|mask|unmask)[=:].+$`), "seccomp=..., apparmor=..., label=..., mask=... or unmask=..."},
	"shm-size":     {regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([kKmMgG]([iI]?[bB])?|[bB])?$`), "an amount of memory, as 1g"},
	"sysctl":       {regexp.MustCompile(`^[a-z][a-zA-Z0-9_.-]*=.*$`), "NAME=VALUE"},
	"tmpfs":        {regexp.MustCompile(`^/[^:]+(:.+)?$`), "an absolute path, and options behind a colon"},
	"ulimit":       {regexp.MustCompile(`^([a-z]+=-?[0-9]+(:-?[0-9]+)?|host)$`), "NAME=SOFT:HARD"},
	"userns":       {regexp.MustCompile(`^(auto|host|keep-id|nomap)(:.+)?$`), "auto, host, keep-id or nomap"},
}

// HostGateway is docker's word for the address of a container's host.
const HostGateway = "host-gateway"

// RunOptionNames returns the names of all options that RunOptions may have.
func RunOptionNames() []string { return slices.Sorted(maps.Keys(runOptions)) }

// CheckRunOption returns the error of one of RunOptions, or nil. CheckRunOptions
// checks them together.
func CheckRunOption(option string) error {
	name, value, has := strings.Cut(strings.TrimPrefix(option, "--"), "=")
	known, ok := runOptions[name]
	switch {
	case !strings.HasPrefix(option, "--") || !has || value == "":
		return errors.New("must be --name=value, as --shm-size=1g")
	case !ok:
		return fmt.Errorf("--%s is not one of the options that can be passed on: %s", name, strings.Join(RunOptionNames(), " "))
	case name == "add-host" && strings.HasSuffix(value, ":"+HostGateway):
		return errors.New("podman does not know host-gateway; containers reach their host as host.containers.internal")
	case name == "security-opt" && strings.HasPrefix(value, "no-new-privileges"):
		return errors.New("--security-opt=no-new-privileges is the key no_new_privileges")
	case !known.form.MatchString(value) || strings.ContainsFunc(value, unicode.IsControl) || !addressed(name, value):
		return fmt.Errorf("the value of --%s must be %s", name, known.want)
	}
	return nil
}

// addressed reports whether an option that has an address has a valid one.
func addressed(name, value string) bool {
	switch name {
	case "add-host":
		_, value, _ = strings.Cut(value, ":")
	case "dns":
	default:
		return true
	}
	_, err := netip.ParseAddr(value)
	return err == nil
}

// runOption returns the values of an option.
func (t *Template) runOption(name string) (values []string) {
	for _, option := range t.RunOptions {
		if value, ok := strings.CutPrefix(option, "--"+name+"="); ok {
			values = append(values, value)
		}
	}
	return values
}

// CheckRunOptions returns the error of RunOptions as a whole, and together with the
// other fields, or nil. Package fleetfile refuses specs that fail it.
func (t *Template) CheckRunOptions() error {
	for _, option := range t.RunOptions {
		if err := CheckRunOption(option); err != nil {
			return err
		}
	}
	if len(t.runOption("shm-size")) > 0 && t.OwnsNoSharedMemory() {
		return errors.New("--shm-size needs an IPC namespace of the container's own, without --ipc=host or none")
	}
	if t.Network == "none" && len(t.runOption("dns"))+len(t.runOption("dns-option"))+len(t.runOption("dns-search")) > 0 {
		return errors.New("--dns has no use without a network")
	}
	for _, tmpfs := range t.runOption("tmpfs") {
		target, _, _ := strings.Cut(tmpfs, ":")
		if path.Clean(target) == "/" {
			return errors.New("the target of --tmpfs cannot be /")
		}
		for _, m := range t.Mounts {
			if path.Clean(m.Target) == path.Clean(target) {
				return fmt.Errorf("a mount and --tmpfs have the same target %s", target)
			}
		}
	}
	return nil
}

// OwnsNoSharedMemory reports whether the container has no shared memory of its own:
// it has the host's, or no shared memory.
func (t *Template) OwnsNoSharedMemory() bool {
	return slices.ContainsFunc(t.runOption("ipc"), func(mode string) bool { return mode == "host" || mode == "none" })
}
