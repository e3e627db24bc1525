// Package advertise finds what a listener is to be called by others: the host
// that the operator gave, or the one that is bound, or, when that stands for
// every address, this machine's own. It opens no listener, sends nothing and
// keeps nothing.
package advertise

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Host is what others reach a listener at that is bound to the host bind.
// given is what --advertise says, "" for nothing; the port that it may name is
// some listener's own matter.
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
		return "", fmt.Errorf("--advertise: the address of this machine cannot be found (%w): give it", err)
	}
	return own, nil
}

// Address is Host for a listener's address, with the port that is bound.
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

// All tells whether a listener's host stands for every address.
func All(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap().IsUnspecified()
}

// ownAddress is the address that this machine's default route has; without
// one, the first private address, else any that is not loopback. The bridges
// that container engines make come after the real interfaces.
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
		return "", errors.New("no interface has one")
	}
	return other, nil
}
