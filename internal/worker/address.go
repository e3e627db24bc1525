package worker

import (
	"fmt"
	"net"

	"github.com/mcpfleet/mcpfleet/internal/advertise"
)

// addresses finds what to tell others: the host:port of gRPC, and the host of
// the ring, which is "" when the ring's own listener says it.
func addresses(c *Config) (grpc, ring string, err error) {
	ringHost, _, err := net.SplitHostPort(c.Gossip)
	if err != nil {
		return "", "", fmt.Errorf("--gossip: %w", err)
	}
	if grpc, err = advertise.Address(c.GRPC.Addr(), c.Advertise); err != nil {
		return "", "", err
	}
	if c.Advertise != "" || advertise.All(ringHost) {
		if ring, err = advertise.Host(ringHost, c.Advertise); err != nil {
			return "", "", err
		}
	}
	return grpc, ring, nil
}
