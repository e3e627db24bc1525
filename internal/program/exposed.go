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

// lookupTimeout bounds the question which addresses a name has.
const lookupTimeout = 5 * time.Second

// Listener is where a flag makes a program listen.
type Listener struct{ Flag, Addr string }

// RefuseIfExposed refuses to listen where other machines might reach the
// program, unless the operator said that this is meant. danger is what who
// reaches it can do. An address that is none is left to whoever listens there.
func RefuseIfExposed(insecure bool, danger string, listeners ...Listener) error {
	if insecure {
		return nil
	}
	var problems []error
	for _, l := range listeners {
		if exposed(l.Addr) {
			problems = append(problems, fmt.Errorf("%s: other machines could reach %s, and there is no access control yet: %s; "+
				"listen on 127.0.0.1, or say --insecure when only machines that may do so can reach it", l.Flag, l.Addr, danger))
		}
	}
	return Usage(cmdline.Join(problems...))
}

// WarnIfExposed says what listeners mean that other machines can reach.
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

// exposed tells whether a listener at host:port may be reached from elsewhere.
// A name is safe only when it resolves, and to loopback addresses alone.
func exposed(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // nobody can listen there
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
