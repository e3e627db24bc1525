// Package program holds what the two programs, controller and worker, do alike
// before and after their work: logger, stop signals and lifeline, listeners that
// others must not reach, the garbage collector's settings, the first line of
// output. It is for cmd/ only.
//
// The goroutines of Context and Stops end with the functions that they return.
package program

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/mcpfleet/mcpfleet/internal/cmdline"
	"github.com/mcpfleet/mcpfleet/internal/envflag"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
	"github.com/mcpfleet/mcpfleet/internal/sink"
)

const (
	// lastLines bounds how long the end of a program waits until its log is written.
	lastLines = 2 * time.Second
	// announceWithin is how long the start of a program waits for whoever reads
	// where it listens.
	announceWithin = time.Second
)

// Main runs a program and returns its exit code: 0, 1 for an error, 2 for bad
// usage (an error that Usage made). The error is told on stderr.
//
// What the program and its libraries write to stderr goes through a sink: a
// reader that does not read makes nobody wait.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) int {
	// A log whose reader is gone must not end a program before it has stopped
	// in order. Ignoring the signal instead would be inherited by children.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stderr := sink.New(sink.Config{Out: os.Stderr})
	defer stderr.Close(lastLines)
	log.SetOutput(stderr) // for libraries that know nothing better
	err := run(context.Background(), os.Args[1:], os.Stdout, stderr)
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "%s: %v\nSee %s --help.\n", name, err, name)
		return 2
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
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

// Parse parses a program's arguments and the environment into its flags. Its
// error is one of Usage, or pflag.ErrHelp, and tells all that is wrong with
// them, together with what check finds: a program's own rules for flags.
func Parse(set *pflag.FlagSet, args []string, lookup func(string) (string, bool), check func() error) error {
	problems := cmdline.Parse(set.Name(), set, args)
	if len(problems) == 1 && errors.Is(problems[0], pflag.ErrHelp) {
		return problems[0]
	}
	for _, arg := range set.Args() {
		problems = append(problems, fmt.Errorf("unexpected argument %q: %s takes flags only", arg, set.Name()))
	}
	problems = append(problems, envflag.Apply(set, lookup), check())
	return Usage(cmdline.Join(problems...))
}

// Logger makes a logger of the format (text or json) and level (debug, info,
// warn or error) that flags asked for. When w is a sink, it reports dropped
// lines in the same format.
func Logger(w io.Writer, format, level string) (*slog.Logger, error) {
	if err := CheckLog(format, level); err != nil {
		return nil, err
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, err
	}
	handler := func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) }
	if format == "json" {
		handler = func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) }
	}
	if s, ok := w.(*sink.Sink); ok {
		s.ReportDropped(func(lines int) []byte {
			var b bytes.Buffer
			slog.New(handler(&b, nil)).Warn(fmt.Sprintf("%d log lines dropped", lines),
				"reason", "stderr could not be written, or its reader was too slow")
			return b.Bytes()
		})
	}
	return slog.New(handler(w, &slog.HandlerOptions{Level: l})), nil
}

// LogDropped returns what counts the dropped lines of a log; nil if w is no
// sink.
func LogDropped(w io.Writer) func() uint64 {
	if s, ok := w.(*sink.Sink); ok {
		return s.Dropped
	}
	return nil
}

// CheckLog returns what is wrong with the format and the level of a log.
func CheckLog(format, level string) error {
	var problems []error
	if formats := []string{"text", "json"}; !slices.Contains(formats, format) {
		problems = append(problems, fmt.Errorf("--log-format: must be text or json, not %q%s", format, nearest.Hint(format, formats, nil)))
	}
	if err := new(slog.Level).UnmarshalText([]byte(level)); err != nil {
		hint := nearest.Hint(level, []string{"debug", "info", "warn", "error"}, nil)
		problems = append(problems, fmt.Errorf("--log-level: must be debug, info, warn or error, not %q%s", level, hint))
	}
	return errors.Join(problems...)
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

// PrintLine writes one line of JSON.
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

// Announce writes one line of JSON to stdout: where a program listens, for
// whoever started it. If that cannot be written, or nobody reads it, the
// program goes on all the same: stdout may be the log that is stalled.
func Announce(stdout io.Writer, v any, log *slog.Logger) {
	announced := make(chan error, 1)
	go func() { announced <- PrintLine(stdout, v) }() // without a reader it lasts as long as the program
	timer := time.NewTimer(announceWithin)
	defer timer.Stop()
	select {
	case err := <-announced:
		if err != nil {
			log.Warn("the addresses cannot be told on stdout", "reason", err, "addresses", v)
		}
	case <-timer.C:
		log.Warn("nobody reads the addresses on stdout: going on", "addresses", v)
	}
}
