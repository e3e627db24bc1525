package fleet

import (
	"errors"
	"slices"
	"strings"
)

// CheckContainerEnv returns why a container cannot be given a variable, or nil.
// Package fleetfile refuses variables that fail it.
func CheckContainerEnv(name, value string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "=*# \t\r\n\x00") || strings.HasPrefix(name, "-"):
		return errors.New("not a name that a variable can have")
	case strings.ContainsRune(value, 0):
		return errors.New("the value must not contain a NUL byte")
	case SteersPodman(name) && strings.ContainsAny(value, "\r\n"):
		return errors.New("the value must not contain line breaks: podman acts on a variable of this name, so it is handed over in a file of lines")
	}
	return nil
}

// SteersPodman reports whether podman, its helpers or their libraries would
// act on a variable of that name in their own environment.
func SteersPodman(name string) bool {
	up := strings.ToUpper(name)
	if slices.Contains([]string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TERM", "TZ", "TZDIR", "TMPDIR", "ENV", "IFS", "PWD",
		"HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "LOCPATH", "NLSPATH", "GCONV_PATH", "GETCONF_DIR",
		"INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY",
		"FTP_PROXY", "NO_PROXY", "ALL_PROXY", "CONTAINER", "NETAVARK", "AARDVARK", "RUST_LOG", "RUST_BACKTRACE", "LIBPOD",
		"GODEBUG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "GOROOT",
	}, up) {
		return true
	}
	for _, prefix := range []string{
		"_", "LC_", "LD_", "XDG_", "DBUS_", "MALLOC_", "GLIBC_", "BASH", "XTABLES_", "IPTABLES_", "NETAVARK_",
		"CONTAINER_", "CONTAINERS_", "STORAGE_", "REGISTRY_", "REGISTRIES_", "BUILDAH_", "PODMAN_", "DOCKER_", "OCI_", "RUNC_",
		"CRUN_", "LIBCRUN_", "CONMON_", "CNI_", "SYSTEMD_", "LISTEN_", "MCPFLEET_", "SUPPRESS_",
	} {
		if strings.HasPrefix(up, prefix) {
			return true
		}
	}
	return false
}
