// Package top shows what a fleet does at present: its servers, replicas and nodes, with
// their calls, latency, queues, processor time and memory. Live draws tables on a
// terminal that keys sort, filter and scroll. Print prints them once.
//
// Figures per second are the difference of two readings of the API. NewReport and the
// screen are pure functions of readings and keys: only Live has a clock. What cannot
// be read for a while is shown as it was, with the reason.
//
// Live runs the goroutine that reads, and waits for its end. How to read is left to
// the caller.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	tea "charm.land/bubbletea/v2"
)

// Config is what Live needs.
type Config struct {
	In       io.Reader // a terminal
	Out      io.Writer // a terminal
	Read     func(context.Context) (Reading, error)
	At       string // where Read reads, for the screen
	Interval time.Duration
	Sort     string // name of a column; "": by calls
}

// Live shows the fleet until the user quits or ctx ends. It returns an error if the
// first reading fails; later ones are repeated.
func Live(ctx context.Context, cfg Config) error {
	first, err := cfg.Read(ctx)
	if err != nil {
		return err
	}
	outside := ctx
	ctx, cancel := context.WithCancel(ctx)
	screen := tea.NewProgram(newModel(cfg.At, cfg.Sort, first),
		tea.WithContext(ctx), tea.WithInput(cfg.In), tea.WithOutput(cfg.Out), tea.WithoutSignalHandler())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	reading.Go(func() { poll(ctx, cfg, screen.Send) })
	if _, err := screen.Run(); err != nil && (outside.Err() == nil || !errors.Is(err, tea.ErrProgramKilled)) {
		return fmt.Errorf("show the fleet: %w", err)
	}
	return nil
}

// poll reads at each interval until ctx ends, and sends what it reads.
func poll(ctx context.Context, cfg Config, send func(tea.Msg)) {
	tick := time.NewTicker(cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, err := cfg.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			send(failedMsg{time.Now(), err})
		default:
			send(readMsg{r})
		}
	}
}

// Twice reads twice, an interval apart, and returns the report of that time.
func Twice(ctx context.Context, cfg Config) (Report, error) {
	before, err := cfg.Read(ctx)
	if err != nil {
		return Report{}, err
	}
	wait := time.NewTimer(cfg.Interval)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return Report{}, ctx.Err()
	case <-wait.C:
	}
	now, err := cfg.Read(ctx)
	if err != nil {
		return Report{}, err
	}
	return NewReport(&before, now), nil
}

// Print prints the table of each view, sorted by a column where it has that.
func Print(out io.Writer, r *Report, sort string) error {
	w := tabwriter.NewWriter(out, 0, 0, gap, ' ', 0)
	for i, t := range tables(r) {
		if i > 0 {
			fmt.Fprintln(w)
			if err := w.Flush(); err != nil { // the columns of each table are aligned on their own
				return err
			}
		}
		names := make([]string, len(t.columns))
		for j, c := range t.columns {
			names[j] = c.name
		}
		fmt.Fprintln(w, strings.Join(names, "\t"))
		for _, r := range t.sorted(sortColumn(&t, sort), false, "") {
			cells := make([]string, len(r.cells))
			for j, c := range r.cells {
				cells[j] = c.text
			}
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
	}
	return w.Flush()
}
