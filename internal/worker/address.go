package worker

import (
	"fmt"
	"net"

	"github.com/mcpfleet/mcpfleet/internal/advertise"
)

// addresses returns what others are told: the host:port of gRPC, and the host of the
// ring. The latter is "" if the ring's own listener decides it.
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
