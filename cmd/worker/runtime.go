package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/podman"
	"github.com/mcpfleet/mcpfleet/internal/process"
	"github.com/mcpfleet/mcpfleet/internal/program"
	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// openRuntime returns what opens the runtime that --runtime asks for.
func (f *flags) openRuntime(log *slog.Logger) func(context.Context) (fleet.Runtime, error) {
	return func(ctx context.Context) (fleet.Runtime, error) {
		rt, _, err := f.open(ctx, log, f.dataDir)
		return rt, err
	}
}

// open opens the runtime, and says why it is the one if that was not asked for.
func (f *flags) open(ctx context.Context, log *slog.Logger, dataDir string) (rt fleet.Runtime, why string, err error) {
	plain := func() (fleet.Runtime, error) {
		return process.New(process.Config{Node: f.node, DataDir: dataDir, Log: log})
	}
	if f.runtime == "process" {
		rt, err = plain()
		return rt, "", err
	}
	containers, err := podman.Open(ctx, podman.Config{Node: f.node, DataDir: dataDir, Log: log, AuthFile: f.authFile})
	switch {
	case err == nil:
		return containers, "a container ran", nil
	case f.runtime == "podman" || ctx.Err() != nil:
		return nil, "", fmt.Errorf("podman does not work here: %w", err)
	}
	why = "podman does not work here: " + err.Error()
	log.Warn("replicas will run as plain processes", "reason", why)
	rt, err = plain()
	return rt, why, err
}

// checkRuntime prints which runtime works here. It uses the data directory
// only when that was given: the default one may belong to a worker that runs.
func checkRuntime(ctx context.Context, f *flags, log *slog.Logger, stdout io.Writer) (err error) {
	dir := f.dataDir
	if f.dataGiven {
		lock, err := worker.LockDir(dir)
		if err != nil {
			return err
		}
		defer lock.Close()
	} else {
		if dir, err = os.MkdirTemp("", "mcpfleet-check-"); err != nil {
			return fmt.Errorf("check runtime: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	ctx, stop := program.Context(ctx, f.lifeline)
	defer stop()
	rt, why, err := f.open(ctx, log, dir)
	if err != nil {
		return err
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := rt.Close(closing); err != nil {
		return err
	}
	return program.PrintLine(stdout, struct {
		Runtime string `json:"runtime"`
		Reason  string `json:"reason"`
	}{rt.Name(), why})
}
