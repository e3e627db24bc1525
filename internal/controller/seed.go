package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

// seeder puts the fleet file into desired state: once, if nobody has ever
// written there, and again whenever an operator asks for it.
type seeder struct {
	cfg      Config
	writes   *writes
	caughtUp <-chan struct{} // closed once this controller knows all that was written before it started
	log      *slog.Logger
	done     atomic.Bool // nothing is left to be put into an empty state
}

// parse reads the fleet file.
func (s *seeder) parse() (*fleetfile.File, error) {
	data, err := os.ReadFile(s.cfg.File)
	if err != nil {
		return nil, fmt.Errorf("read the fleet file: %w", err)
	}
	file, err := fleetfile.Parse(data, fleetfile.OnDisk(s.cfg.File, s.cfg.Lookup))
	if err != nil {
		return nil, fmt.Errorf("the fleet file was refused and nothing changed:\n%w", err)
	}
	for _, w := range file.Warnings {
		s.log.Warn("fleet file", "file", w.File, "line", w.Line, "path", w.Path, "warning", w.Msg)
	}
	return file, nil
}

// late returns the fleet file for a controller that has state and is in a
// cluster to which nobody ever wrote: a life before this one founded it and
// ended before it could seed it.
func (s *seeder) late(ctx context.Context) *fleetfile.File {
	if s.cfg.File == "" {
		return nil
	}
	select {
	case <-s.caughtUp:
	case <-ctx.Done():
		return nil
	}
	if s.writes.State().Written != 0 {
		return nil
	}
	file, err := s.parse()
	if err != nil {
		s.log.Error("the empty state is not filled", "err", err)
	}
	return file
}

// seed writes the file, which was read if this controller began without any
// state, to an empty state. It tries until that is done, is not needed, or ctx
// ends.
func (s *seeder) seed(ctx context.Context, file *fleetfile.File) {
	defer s.done.Store(true)
	if file == nil {
		file = s.late(ctx)
	}
	if file == nil || len(file.Servers) == 0 { // an empty state is what it wants
		return
	}
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	told := ""
	for {
		err := s.put(ctx, file, desired.Match{New: true})
		if err == nil || errors.Is(err, fleet.ErrPrecondition) {
			s.await(ctx, retry.C) // what the leader has, this controller may not have yet
		}
		switch {
		case err == nil:
			s.log.Info("the empty state was filled from the fleet file", "file", s.cfg.File, "servers", len(file.Servers))
			return
		case errors.Is(err, fleet.ErrPrecondition):
			s.log.Info("the fleet file was not applied: there is desired state already; to change it, apply the file or send SIGHUP",
				"file", s.cfg.File)
			return
		case ctx.Err() != nil:
			return
		case err.Error() != told:
			told = err.Error()
			s.log.Info("the fleet file is not applied yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
	}
}

// await waits until this controller has what was written first.
func (s *seeder) await(ctx context.Context, look <-chan time.Time) {
	for s.writes.State().Written == 0 {
		select {
		case <-ctx.Done():
			return
		case <-look:
		}
	}
}

// put makes the file desired: here if this controller leads, else through the
// leader.
func (s *seeder) put(ctx context.Context, file *fleetfile.File, match desired.Match) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	self, http, ok := s.writes.Leader()
	switch {
	case !ok || !self && http == "":
		return fleet.ErrNoLeader
	case self:
		_, err := s.writes.Propose(ctx, desired.PutServers{
			Servers: file.Servers, DefaultServer: file.DefaultServer, Match: match,
		})
		return err
	}
	client, err := api.NewClient(http, s.writes.peers)
	if err != nil {
		return err
	}
	body, err := fleetfile.Encode(file)
	if err != nil {
		return err
	}
	_, err = client.Apply(ctx, body, api.WriteOptions{New: match.New})
	return err
}

// Run fills an empty state, and applies the file again whenever it is told to.
// A bad file changes nothing.
func (s *seeder) Run(ctx context.Context, file *fleetfile.File) error {
	s.seed(ctx, file)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Reload:
		}
		if s.cfg.File == "" {
			s.log.Warn("told to apply the fleet file, but there is none: no --config was given")
			continue
		}
		file, err := s.reload(ctx)
		if err != nil {
			s.log.Error("apply the fleet file again", "err", err)
			continue
		}
		s.log.Info("the fleet file was applied again", "file", s.cfg.File, "servers", len(file.Servers))
	}
}

// reload makes the fleet file desired, whatever is stored.
func (s *seeder) reload(ctx context.Context) (*fleetfile.File, error) {
	file, err := s.parse()
	if err != nil {
		return nil, err
	}
	if len(file.Broken) > 0 { // applied without them, they would be stopped where they run
		return nil, fmt.Errorf("servers of the file have errors, so nothing was changed: %v", file.Broken)
	}
	return file, s.put(ctx, file, desired.Match{})
}
