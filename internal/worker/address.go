package worker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// addresses finds what to tell others: the host:port of gRPC, and the host of
// the ring, which is "" when the ring's own listener says it.
func addresses(c *Config) (grpc, ring string, err error) {
	host, _, err := net.SplitHostPort(c.GRPC.Addr().String())
	if err != nil {
		return "", "", fmt.Errorf("--grpc: %w", err)
	}
	ringHost, _, err := net.SplitHostPort(c.Gossip)
	if err != nil {
		return "", "", fmt.Errorf("--gossip: %w", err)
	}
	switch {
	case c.Advertise != "":
		host, ring = c.Advertise, c.Advertise
	case onAll(host) || onAll(ringHost):
		own, err := ownAddress()
		if err != nil {
			return "", "", fmt.Errorf("--advertise: the address of this machine cannot be found (%w): give it", err)
		}
		if onAll(host) {
			host = own
		}
		if onAll(ringHost) {
			ring = own
		}
	}
	port := 0
	if tcp, ok := c.GRPC.Addr().(*net.TCPAddr); ok {
		port = tcp.Port
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), ring, nil
}

// onAll tells whether a listener's host stands for every address.
func onAll(host string) bool {
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
		if host, _, err := net.SplitHostPort(conn.LocalAddr().String()); err == nil && !onAll(host) {
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
