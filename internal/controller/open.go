package controller

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/advertise"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/events"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/gossip"
	"github.com/mcpfleet/mcpfleet/internal/leader"
	"github.com/mcpfleet/mcpfleet/internal/membership"
	"github.com/mcpfleet/mcpfleet/internal/seed"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// open opens what others see of this controller: its directory, gossip and
// raft. What it reads comes first, so that a mistake there is seen by nobody
// else.
func (c *controller) open() (err error) {
	cfg := &c.cfg
	if c.dir, err = store.Prepare(cfg.DataDir); err != nil {
		return err
	}
	if cfg.File != "" && c.dir.Stateless() {
		if c.file, err = (&seed.Config{File: cfg.File, Lookup: cfg.Lookup, Log: c.log}).Read(); err != nil {
			return err
		}
	}
	if c.self, err = memberOf(cfg, c.dir); err != nil {
		return err
	}
	c.ring, err = gossip.New(gossip.Config{
		Member: c.self, Bind: cfg.Gossip, Advertise: cfg.Advertise, Join: cfg.Join,
		PeersFile: filepath.Join(cfg.DataDir, "peers.json"), Log: c.log,
	})
	if err != nil {
		return err
	}
	c.events = events.New(events.MaxEvents)
	c.store, err = store.Open(store.Config{
		Dir: c.dir, Name: cfg.Name, Listener: cfg.Raft, Expect: cfg.Expect, Log: c.log,
		Timeouts: cfg.Timeouts, DiskTimeout: cfg.DiskTimeout,
		Resolve: func(id fleet.ControllerID) (string, bool) {
			m, ok := fleet.FindController(c.ring.Members(), id)
			return m.Raft, ok
		},
		Formats: func() int { return membership.OldestFormat(c.ring.Members(), c.dir.Cluster()) },
		Applied: c.events.Applied,
	})
	if err != nil {
		return err
	}
	c.leader = leader.New(c.store, c.ring)
	return nil
}

// memberOf returns this controller as the ring shows it.
func memberOf(cfg *Config, dir *store.Dir) (fleet.Member, error) {
	m := fleet.Member{
		Node: cfg.Name, Life: fleet.NewLifeID(), Role: fleet.RoleController, PID: os.Getpid(), Started: time.Now(),
		Controller: dir.ID(), Cluster: dir.Cluster(), Format: desired.Format, Version: cfg.Version,
	}
	if dir.Stateless() {
		m.Expect = cfg.Expect
	}
	var err error
	if m.HTTP, err = advertise.Listener(cfg.HTTP, cfg.Advertise); err != nil {
		return m, fmt.Errorf("--http: %w", err)
	}
	if m.Raft, err = advertise.Listener(cfg.Raft, cfg.Advertise); err != nil {
		return m, fmt.Errorf("--raft: %w", err)
	}
	if m.GRPC, err = advertise.Listener(cfg.GRPC, cfg.Advertise); err != nil {
		return m, fmt.Errorf("--grpc: %w", err)
	}
	return m, nil
}

// namesOf returns the names by which clients may call this controller, whatever
// --allowed-hosts says. On loopback that is only the name in --http: the others
// belong to addresses that are not bound.
func namesOf(cfg *Config) []string {
	names := []string{cfg.HTTPHost}
	if advertise.OnLoopback(cfg.HTTP) {
		return names
	}
	names = append(names, string(cfg.Name), cfg.Advertise)
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return names
}
