// Package program is the frame that the controller and worker programs share:
// flags, logger, stop signals and lifeline, the check for exposed listeners,
// the garbage collector's settings, and the line on stdout that announces the
// addresses. It is for cmd/ only.
//
// The functions that Context, Stops and ReturnMemory return end the goroutines
// that these have started.
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
	// flushTimeout bounds how long a program that ends waits for its log to be
	// written.
	flushTimeout = 2 * time.Second
	// announceTimeout bounds how long a program that starts waits for a reader
	// of its addresses.
	announceTimeout = time.Second
)

// Main runs a program and returns its exit code: 0 for success, 2 for an error
// that Usage made, 1 for any other. It prints the error to stderr.
//
// The program and its libraries write to stderr through a sink, so that a
// reader that stops reading does not block them.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) int {
	// A program whose log has lost its reader must still stop in order, so
	// SIGPIPE must not kill it. Ignoring the signal would be inherited by
	// children, so it is caught instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	stderr := sink.New(sink.Config{Out: os.Stderr})
	defer stderr.Close(flushTimeout)
	log.SetOutput(stderr) // for libraries that use the standard logger
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

// Usage marks an error as a mistake on the command line. It returns nil for nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// Parse sets a program's flags from its arguments and the environment, and
// then calls check, which has the program's own rules. The error lists every
// problem. It is made by Usage, or is pflag.ErrHelp.
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

// Logger returns a logger that writes to w, with a format of text or json and
// a level of debug, info, warn or error. If w is a sink, dropped lines are
// reported in the same format.
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

// LogDropped returns a function that counts the dropped lines of a log. It
// returns nil if w is not a sink.
func LogDropped(w io.Writer) func() uint64 {
	if s, ok := w.(*sink.Sink); ok {
		return s.Dropped
	}
	return nil
}

// CheckLog checks the values of --log-format and --log-level.
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

// StateHome returns the directory for the state of the user's programs, as the
// XDG base directories define it.
func StateHome(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_STATE_HOME"); ok && filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir() // a user without a home, as in some containers
	}
	return filepath.Join(home, ".local", "state")
}

// PrintLine writes v as one line of JSON.
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

// Announce writes v, the addresses of the program, to stdout as one line of
// JSON for the parent process. A failed write is logged. Announce does not wait
// longer than a second for a reader: stdout may be a stalled log.
func Announce(stdout io.Writer, v any, log *slog.Logger) {
	announced := make(chan error, 1)
	go func() { announced <- PrintLine(stdout, v) }() // without a reader it lasts as long as the program
	timer := time.NewTimer(announceTimeout)
	defer timer.Stop()
	select {
	case err := <-announced:
		if err != nil {
			log.Warn("could not write the addresses to stdout", "err", err, "addresses", v)
		}
	case <-timer.C:
		log.Warn("the addresses on stdout have no reader", "addresses", v)
	}
}
