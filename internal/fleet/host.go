package fleet

import (
	"fmt"
	"net/netip"
	"strings"
)

// AnyHost among the allowed hosts of a controller stands for all of them.
const AnyHost = "*"

// CheckAllowedHosts returns an error that names the first of a controller's
// allowed hosts that is not a host name, IP address or pattern.
func CheckAllowedHosts(hosts []string) error {
	for _, h := range hosts {
		name := strings.TrimPrefix(h, "*.")
		switch {
		case h == AnyHost:
		case strings.Contains(h, "://"):
			return fmt.Errorf("%q is a URL; give the host name alone, such as fleet.example.com", h)
		case isAddress(h):
		case strings.Contains(h, ":"):
			return fmt.Errorf("%q has a port; give the host name alone, all its ports are allowed", h)
		case !IsHostName(name):
			return fmt.Errorf("%q is not a host name; give one such as fleet.example.com, *.example.com for all names below, or * for any", h)
		}
	}
	return nil
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// IsHostName reports whether a name can stand in a Host header. Underscores are
// common in Compose.
func IsHostName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return false
		}
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
