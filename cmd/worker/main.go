// Command worker runs the replicas of one node: it joins the ring, serves
// controllers over gRPC, and starts and stops replicas as they order.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// version is set by the linker.
var version = "dev"

func main() {
	// A log whose reader is gone must not end the worker before it has stopped
	// its replicas. Ignoring the signal instead would be inherited by them.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parseFlags(args, os.LookupEnv, stdout)
	if err != nil {
		return err
	}
	if f.version {
		_, err := fmt.Fprintln(stdout, version)
		return err
	}
	log := newLog(f, stderr)
	if f.checkRuntime {
		return checkRuntime(ctx, f, log, stdout)
	}
	capacity, err := f.capacity(os.DirFS("/"))
	if err != nil {
		return err
	}
	tuneGC(capacity.Memory, os.LookupEnv)

	ctx, stop := stopSignals(ctx, f.lifeline)
	defer stop()
	listener, err := net.Listen("tcp", f.grpc)
	if err != nil {
		return fmt.Errorf("--grpc: %w", err)
	}
	warnIfExposed(log, listener.Addr(), f.gossip)
	return worker.Run(ctx, worker.Config{
		Node: f.node, Zone: f.zone, Labels: f.labels, Capacity: capacity, Version: version,
		DataDir: f.dataDir, Runtime: f.openRuntime(log),
		GRPC: listener, Gossip: f.gossip, Advertise: f.advertise, Join: f.join,
		DrainTimeout: f.drain(), Log: log,
		Bound: func(grpc, gossip string) error {
			return printLine(stdout, struct {
				GRPC   string `json:"grpc"`
				Gossip string `json:"gossip"`
			}{grpc, gossip})
		},
	})
}

func printLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// stopSignals makes a context that the first INT or TERM ends. A second one
// kills, unless there is a lifeline: then whoever holds it decides.
func stopSignals(ctx context.Context, lifeline int) (context.Context, func()) {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	if lifeline < 0 {
		context.AfterFunc(ctx, restore)
		return ctx, restore
	}
	ctx, cancel := context.WithCancelCause(ctx)
	// Made non-blocking, or the read would keep a thread and outlive close.
	_ = syscall.SetNonblock(lifeline, true)
	pipe := os.NewFile(uintptr(lifeline), "lifeline")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := io.Copy(io.Discard, pipe)
		cancel(errors.Join(errors.New("the lifeline ended"), err))
	}()
	return ctx, func() {
		cancel(nil)
		pipe.Close()
		<-done
		restore()
	}
}

// warnIfExposed says what a listener means that others can reach.
func warnIfExposed(log *slog.Logger, grpc net.Addr, gossip string) {
	var open []string
	for _, addr := range []string{grpc.String(), gossip} {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			open = append(open, addr)
		}
	}
	if len(open) > 0 {
		log.Warn("other machines can reach this worker, and there is no access control yet: who reaches it can run programs here",
			"addresses", strings.Join(open, " "))
	}
}

func newLog(f *flags, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: f.logLevel}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// stateHome is where programs keep state of a user.
func stateHome(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir() // no home: a container's bare user
	}
	return filepath.Join(home, ".local", "state")
}
