// Package advertise finds the address at which others reach a listener. Its host
// is the one that the operator gave, else the one that is bound. If that stands
// for every address, it is this machine's own. The package opens no listener, sends
// nothing and keeps nothing.
package advertise

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Host returns the host at which others reach a listener that is bound to the host
// bind. given is the value of --advertise, or "". If it names a port, that is
// ignored: it belongs to one listener of several.
func Host(bind, given string) (string, error) {
	if host, _, err := net.SplitHostPort(given); err == nil && host != "" {
		return host, nil
	}
	if given != "" {
		return given, nil
	}
	if !All(bind) {
		return bind, nil
	}
	own, err := ownAddress()
	if err != nil {
		return "", fmt.Errorf("find the address of this machine: %w: give it with --advertise", err)
	}
	return own, nil
}

// Listener returns the host:port at which others reach a listener. A listener on
// loopback keeps its host, whatever is given: --advertise does not change who can
// reach it.
func Listener(l net.Listener, given string) (string, error) {
	if OnLoopback(l) {
		given = ""
	}
	return Address(l.Addr(), given)
}

// OnLoopback reports whether a listener can be reached from this machine only.
func OnLoopback(l net.Listener) bool {
	tcp, ok := l.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Address returns Host for a bound address, with its port.
func Address(l net.Addr, given string) (string, error) {
	host, port, err := net.SplitHostPort(l.String())
	if err != nil {
		return "", err
	}
	if host, err = Host(host, given); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// All reports whether the host of a listener stands for every address.
func All(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap().IsUnspecified()
}

// ownAddress returns the address of this machine's default route. Without one it
// returns the first private address, else any that is not loopback. Bridges of
// container engines come after the real interfaces.
func ownAddress() (string, error) {
	// No packet is sent: the kernel only picks a route.
	if conn, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer conn.Close()
		if host, _, err := net.SplitHostPort(conn.LocalAddr().String()); err == nil && !All(host) {
			return host, nil
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	return pickAddress(addrs)
}

func pickAddress(addrs []net.Addr) (string, error) {
	var other string
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		switch {
		case !ip.IsGlobalUnicast():
		case ip.Is4() && ip.IsPrivate():
			return ip.String(), nil
		case other == "":
			other = ip.String()
		}
	}
	if other == "" {
		return "", errors.New("no interface has an address that others can reach")
	}
	return other, nil
}
