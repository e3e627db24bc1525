package program

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/cmdline"
)

// lookupTimeout bounds the DNS lookup of a listener's host name.
const lookupTimeout = 5 * time.Second

// Listener is an address to listen on and the flag that set it.
type Listener struct{ Flag, Addr string }

// RefuseIfExposed returns an error if other machines could reach one of the
// listeners, unless insecure is set. danger says what an attacker could do.
// Malformed addresses are not reported: listening on them fails anyway.
func RefuseIfExposed(insecure bool, danger string, listeners ...Listener) error {
	if insecure {
		return nil
	}
	var problems []error
	for _, l := range listeners {
		if exposed(l.Addr) {
			problems = append(problems, fmt.Errorf("%s: other machines could reach %s, and there is no access control yet: %s; "+
				"listen on 127.0.0.1, or pass --insecure if only trusted machines can reach it", l.Flag, l.Addr, danger))
		}
	}
	return Usage(cmdline.Join(problems...))
}

// WarnIfExposed logs a warning if other machines can reach one of the
// addresses. danger says what an attacker could do.
func WarnIfExposed(log *slog.Logger, danger string, addrs ...string) {
	var open []string
	for _, addr := range addrs {
		if exposed(addr) {
			open = append(open, addr)
		}
	}
	if len(open) > 0 {
		log.Warn("other machines can reach this program, and there is no access control yet: "+danger, "addresses", strings.Join(open, " "))
	}
}

// exposed reports whether other machines might reach a listener at host:port.
// A host name is safe only if it resolves to loopback addresses alone.
func exposed(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // listening there fails
	}
	if host == "" {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.Unmap().IsLoopback()
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return true
		}
	}
	return err != nil || len(ips) == 0
}
