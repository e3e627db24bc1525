package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/podman"
	"github.com/mcpfleet/mcpfleet/internal/process"
	"github.com/mcpfleet/mcpfleet/internal/program"
	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// openRuntimes returns a function that opens the runtimes of --runtime.
func (f *flags) openRuntimes(log *slog.Logger) func(context.Context) ([]fleet.Runtime, error) {
	return func(ctx context.Context) ([]fleet.Runtime, error) {
		offered, _, err := f.open(ctx, log, f.dataDir)
		return offered, err
	}
}

// open opens the runtimes of --runtime, all or none. With auto it leaves podman
// out where that does not work, and noPodman says why.
func (f *flags) open(ctx context.Context, log *slog.Logger, dataDir string) (offered []fleet.Runtime, noPodman string, err error) {
	auto := f.runtimes == nil
	if auto || slices.Contains(f.runtimes, fleet.RuntimePodman) {
		containers, err := podman.Open(ctx, podman.Config{Node: f.node, DataDir: dataDir, Log: log, AuthFile: f.authFile})
		switch {
		case err == nil:
			offered = append(offered, containers)
		case !auto || ctx.Err() != nil:
			return nil, "", fmt.Errorf("podman does not work here: %w", err)
		default:
			noPodman = "podman does not work here: " + err.Error()
			log.Warn("this node cannot run images", "reason", noPodman)
		}
	}
	if auto || slices.Contains(f.runtimes, fleet.RuntimeProcess) {
		plain, err := process.New(process.Config{Node: f.node, DataDir: dataDir, Log: log})
		if err != nil {
			return nil, "", errors.Join(err, closeAll(ctx, offered))
		}
		offered = append(offered, plain)
	}
	return offered, noPodman, nil
}

func closeAll(ctx context.Context, offered []fleet.Runtime) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var errs []error
	for _, rt := range offered {
		errs = append(errs, rt.Close(ctx))
	}
	return errors.Join(errs...)
}

// check is the output of --check-runtime.
type check struct {
	Runtimes []string `json:"runtimes"`
	Reason   string   `json:"reason"` // why --runtime auto leaves podman out
	CPUs     float64  `json:"cpus"`   // from --cpus, or else of the machine
	Memory   int64    `json:"memory"`
}

// checkRuntime prints which runtimes work here, and what the machine has. It
// uses the data directory only if --data-dir is given, since the default one
// may belong to a running worker.
func checkRuntime(ctx context.Context, f *flags, capacity fleet.Resources, log *slog.Logger, stdout io.Writer) (err error) {
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
	offered, noPodman, err := f.open(ctx, log, dir)
	if err != nil {
		return err
	}
	if err := closeAll(ctx, offered); err != nil {
		return err
	}
	result := check{Runtimes: []string{}, Reason: noPodman, CPUs: capacity.CPUs, Memory: capacity.Memory}
	for _, rt := range offered {
		result.Runtimes = append(result.Runtimes, rt.Name())
	}
	return program.PrintLine(stdout, result)
}
