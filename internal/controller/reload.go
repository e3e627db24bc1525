package controller

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// load makes the fleet file desired, all of it or nothing.
func load(cfg Config, desired *store.Store, log *slog.Logger) error {
	data, err := os.ReadFile(cfg.File)
	if err != nil {
		return fmt.Errorf("read the fleet file: %w", err)
	}
	file, err := fleetfile.Parse(data, fleetfile.Options{Filename: cfg.File, Lookup: cfg.Lookup})
	if err != nil {
		return fmt.Errorf("the fleet file was refused and nothing changed:\n%w", err)
	}
	changes, err := desired.Apply(file.Servers, file.DefaultServer)
	if err != nil {
		return fmt.Errorf("apply the fleet file: %w", err)
	}
	for _, c := range changes {
		log.Info("desired state changed", "server", c.Server, "change", c.Kind, "revision", c.Revision)
	}
	log.Info("fleet file read", "file", cfg.File, "servers", len(file.Servers), "changes", len(changes))
	return nil
}

// reload reads the fleet file whenever it is told to. A bad file changes
// nothing.
func reload(ctx context.Context, cfg Config, desired *store.Store, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-cfg.Reload:
			if cfg.File == "" {
				log.Warn("told to read the fleet file again, but there is none: no --config was given")
				continue
			}
			if err := load(cfg, desired, log); err != nil {
				log.Error("reload", "err", err)
			}
		}
	}
}
