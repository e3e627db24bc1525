// Package seed makes the controller's fleet file (--config) desired: once, if
// nobody has ever written to desired state, and again whenever an operator asks
// for it (SIGHUP).
//
// It promises that a file with an error changes nothing, and that a file fills
// only a state that no user has written to. The file is written through the
// leader, whichever controller reads it. Run is the only goroutine.
package seed

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

const (
	// retryEvery is how often a file is tried again that could not be written.
	retryEvery = 50 * time.Millisecond
	// writeTimeout bounds one attempt.
	writeTimeout = 10 * time.Second
)

// Desired is desired state. Package store implements it.
type Desired interface {
	State() *desired.State
	Propose(ctx context.Context, c desired.Command) (desired.Result, error)
}

// Leader has the leader do something. Package leader implements it.
type Leader interface {
	Do(ctx context.Context, here func(context.Context) error, there func(context.Context, *api.Client) error) error
}

// Config says what a Seeder works with.
type Config struct {
	File     string                           // path of the fleet file; "" if there is none
	Lookup   func(name string) (string, bool) // variables of the file
	Reload   <-chan os.Signal                 // gets a value when the file is to be applied again; may be nil
	CaughtUp <-chan struct{}                  // closed once Desired has all that was committed before the start
	Desired  Desired
	Leader   Leader
	Log      *slog.Logger
}

// Read reads the fleet file and logs its warnings.
func (c *Config) Read() (*fleetfile.File, error) {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return nil, fmt.Errorf("read the fleet file: %w", err)
	}
	file, err := fleetfile.Parse(data, fleetfile.OnDisk(c.File, c.Lookup))
	if err != nil {
		return nil, fmt.Errorf("the fleet file was refused and nothing changed:\n%w", err)
	}
	for _, w := range file.Warnings {
		c.Log.Warn("fleet file", "file", w.File, "line", w.Line, "path", w.Path, "warning", w.Msg)
	}
	return file, nil
}

// Seeder applies the fleet file.
type Seeder struct {
	cfg  Config
	done atomic.Bool // an empty state has been filled, or needs nothing
}

// New returns a Seeder. Its Run does the work.
func New(cfg Config) *Seeder { return &Seeder{cfg: cfg} }

// Missing says that servers of the file may be unknown, as it is not applied
// yet. It returns "" once it is, or does not have to be.
func (s *Seeder) Missing() string {
	if s.done.Load() {
		return ""
	}
	return "the fleet file is not applied yet"
}

// Run fills an empty state, then applies the file again whenever it is asked to.
// file is what was read at the start if this controller began without any state,
// else nil. Run ends with ctx and returns nil.
func (s *Seeder) Run(ctx context.Context, file *fleetfile.File) error {
	s.seed(ctx, file)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Reload:
		}
		if s.cfg.File == "" {
			s.cfg.Log.Warn("asked to apply the fleet file, but there is none: no --config was given")
			continue
		}
		file, err := s.reload(ctx)
		if err != nil {
			s.cfg.Log.Error("fleet file not applied again", "err", err)
			continue
		}
		s.cfg.Log.Info("fleet file applied again", "file", s.cfg.File, "servers", len(file.Servers))
	}
}

// seed writes the file to an empty state. It tries until that is done, turns out
// not to be needed, or ctx ends.
func (s *Seeder) seed(ctx context.Context, file *fleetfile.File) {
	defer s.done.Store(true)
	if file == nil {
		file = s.readLate(ctx)
	}
	if file == nil || len(file.Servers) == 0 {
		return
	}
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	logged := ""
	for {
		err := s.write(ctx, file, desired.Match{New: true})
		if err == nil || errors.Is(err, fleet.ErrPrecondition) {
			s.awaitWrite(ctx, retry.C)
		}
		switch {
		case err == nil:
			s.cfg.Log.Info("empty state filled from the fleet file", "file", s.cfg.File, "servers", len(file.Servers))
			return
		case errors.Is(err, fleet.ErrPrecondition):
			s.cfg.Log.Info("fleet file not applied: there is desired state already; to change it, apply the file or send SIGHUP",
				"file", s.cfg.File)
			return
		case ctx.Err() != nil:
			return
		case err.Error() != logged:
			logged = err.Error()
			s.cfg.Log.Info("fleet file not applied yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-retry.C:
		}
	}
}

// readLate reads the file for a controller that has state of its own, if its
// cluster was never written to: the life that founded the cluster ended before
// it could fill it.
func (s *Seeder) readLate(ctx context.Context) *fleetfile.File {
	if s.cfg.File == "" {
		return nil
	}
	select {
	case <-s.cfg.CaughtUp:
	case <-ctx.Done():
		return nil
	}
	if s.cfg.Desired.State().Written != 0 {
		return nil
	}
	file, err := s.cfg.Read()
	if err != nil {
		s.cfg.Log.Error("empty state not filled", "err", err)
	}
	return file
}

// awaitWrite waits until this controller, too, has the first write that the
// leader has.
func (s *Seeder) awaitWrite(ctx context.Context, look <-chan time.Time) {
	for s.cfg.Desired.State().Written == 0 {
		select {
		case <-ctx.Done():
			return
		case <-look:
		}
	}
}

// reload makes the file desired, whatever is stored.
func (s *Seeder) reload(ctx context.Context) (*fleetfile.File, error) {
	file, err := s.cfg.Read()
	if err != nil {
		return nil, err
	}
	if len(file.Broken) > 0 { // they may run: a file without them would stop them
		return nil, fmt.Errorf("servers of the file have errors, so nothing was changed: %v", file.Broken)
	}
	return file, s.write(ctx, file, desired.Match{})
}

// write makes the file desired, through the leader.
func (s *Seeder) write(ctx context.Context, file *fleetfile.File, match desired.Match) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return s.cfg.Leader.Do(ctx, func(ctx context.Context) error {
		_, err := s.cfg.Desired.Propose(ctx, desired.PutServers{Servers: file.Servers, DefaultServer: file.DefaultServer, Gateways: file.Gateways, Match: match})
		return err
	}, func(ctx context.Context, client *api.Client) error {
		body, err := fleetfile.Encode(file)
		if err != nil {
			return err
		}
		_, err = client.Apply(ctx, body, api.WriteOptions{New: match.New})
		return err
	})
}
