// Package program holds what the two programs, controller and worker, do alike
// before and after their work: logger, stop signals and lifeline, listeners that
// others must not reach, the garbage collector's settings, the first line of
// output. It is for cmd/ only.
//
// The goroutines of Context and Stops end with the functions that they return.
package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"
)

// Main runs a program and returns its exit code: 0, 1 for an error, 2 for bad
// usage (an error that Usage made). The error is told on stderr.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) int {
	// A log whose reader is gone must not end a program before it has stopped
	// in order. Ignoring the signal instead would be inherited by children.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%s: %v\nSee %s --help.\n", name, err, name)
		return 2
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
}

type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// Usage marks an error as one of the command line.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// Logger makes a logger of the format (text or json) and level (debug, info,
// warn or error) that flags asked for.
func Logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is none of debug, info, warn, error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format: %q is none of text, json", format)
}

// StateHome is where programs keep state of a user.
func StateHome(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir() // no home: a container's bare user
	}
	return filepath.Join(home, ".local", "state")
}

// PrintLine writes one line of JSON: where a program listens, for whoever
// started it.
func PrintLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}
