package fleettest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/controller"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/sessions"
)

// Controller is one controller in its present or last life.
type Controller struct {
	*api.Client
	Addresses controller.Addresses
	Sessions  *sessions.Service

	data    string
	process *process
}

// StartController starts a controller, or the next life of one that was
// stopped, at the addresses that it had before.
func (c *Cluster) StartController(name fleet.NodeID) *Controller {
	c.t.Helper()
	addrs := controller.Addresses{HTTP: "127.0.0.1:0", Gossip: "127.0.0.1:0", Raft: "127.0.0.1:0", GRPC: "127.0.0.1:0"}
	one := &Controller{}
	var join []string
	c.mu.Lock()
	if old := c.controllers[name]; old != nil {
		one.data, addrs = old.data, old.Addresses
	} else {
		one.data = c.t.TempDir()
	}
	for other, o := range c.controllers {
		if other != name {
			join = append(join, o.Addresses.Gossip)
		}
	}
	c.mu.Unlock()
	cfg := controller.Config{
		Name: name, HTTP: c.listen(addrs.HTTP), Raft: c.listen(addrs.Raft), GRPC: c.listen(addrs.GRPC), Gossip: addrs.Gossip, Join: join,
		DataDir: one.data, Log: c.log, Expect: c.opts.Controllers, Lookup: os.LookupEnv,
		AllowedHosts: c.opts.AllowedHosts, ShutdownDelay: c.opts.ShutdownDelay, Timeouts: c.raft, LeaderWait: c.leaderWait,
		NodeGrace: c.opts.NodeGrace, ParkWindow: c.opts.ParkWindow, Workers: c.opts.Dial,
	}
	cfg.Sessions = func(s *sessions.Service) { one.Sessions = s }
	if name == "c1" {
		cfg.File, cfg.Reload = c.file, c.reload
	}
	up := make(chan controller.Addresses, 1)
	cfg.Up = func(a controller.Addresses) error { up <- a; return nil }
	one.process = start("controller "+string(name), func(ctx context.Context) error { return controller.Run(ctx, cfg) })
	select {
	case one.Addresses = <-up:
	case <-one.process.done:
		c.t.Fatalf("controller %s did not start: %v", name, one.process.err)
	}
	var err error
	if one.Client, err = api.NewClient("http://"+one.Addresses.HTTP, nil); err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.controllers[name] = one
	return one
}

func (c *Cluster) listen(addr string) net.Listener {
	c.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// Controller returns a controller's present or last life.
func (c *Cluster) Controller(name fleet.NodeID) *Controller {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.controllers[name]
}

// StopController stops a controller in order; the others and the workers go on.
func (c *Cluster) StopController(name fleet.NodeID) {
	c.t.Helper()
	if err := c.Controller(name).process.stop(); err != nil {
		c.t.Error(err)
	}
}

// Leader waits until all running controllers agree on a leader, and returns it.
func (c *Cluster) Leader() (leader fleet.NodeID) {
	c.t.Helper()
	Eventually(c.t, func(ctx context.Context) error {
		leader = ""
		c.mu.Lock()
		all := maps.Clone(c.controllers)
		c.mu.Unlock()
		for name, one := range all {
			if one.process.stopped() {
				continue
			}
			list, err := one.Controllers(ctx)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(list.Controllers, func(o api.Controller) bool { return o.Leader })
			if i < 0 {
				return fmt.Errorf("%s knows no leader", name)
			}
			switch now := list.Controllers[i].Name; {
			case all[now].process.stopped():
				return fmt.Errorf("%s says that %s leads, which has stopped", name, now)
			case leader == "" || leader == now:
				leader = now
			default:
				return fmt.Errorf("%s says that %s leads, another says %s", name, now, leader)
			}
		}
		return nil
	})
	return leader
}

// HTTP is the first controller's host:port.
func (c *Cluster) HTTP() string { return c.Controller("c1").Addresses.HTTP }
