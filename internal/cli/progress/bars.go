package progress

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// barWidth is the width of a bar with its ends.
const barWidth = 20

// bars draws rows at the end of the output of a terminal. The library's goroutines
// draw; they end in finish.
type bars struct {
	screen *mpb.Progress
	look   chan any // the rows have changed
	widest atomic.Int32
	byName map[string]*rowBar
}

// rowBar is a row on the screen.
type rowBar struct {
	row atomic.Pointer[Row]
	bar *mpb.Bar
}

func newBars(out io.Writer, o ...mpb.ContainerOption) *bars {
	b := &bars{look: make(chan any, 1), byName: make(map[string]*rowBar)}
	b.screen = mpb.New(append(o, mpb.WithOutput(out), mpb.WithManualRefresh(b.look))...)
	return b
}

// show draws the rows in place of the last ones. New names come below the others.
func (b *bars) show(rows []Row) {
	shown := make(map[string]bool, len(rows))
	for _, r := range rows {
		shown[r.Name] = true
		b.widest.Store(max(b.widest.Load(), int32(ansi.StringWidth(Printable(r.Name)))))
		if one := b.byName[r.Name]; one != nil {
			one.row.Store(&r)
			continue
		}
		one := &rowBar{}
		one.row.Store(&r)
		one.bar, _ = b.screen.Add(0, b.filler(one), mpb.BarFillerTrim()) // fails only after finish
		b.byName[r.Name] = one
	}
	for name, one := range b.byName {
		if !shown[name] {
			one.bar.Abort(true)
			delete(b.byName, name)
		}
	}
	select {
	case b.look <- time.Now():
	default: // it looks soon anyway
	}
}

// finish leaves the rows on the screen, and waits for the library.
func (b *bars) finish() {
	for _, one := range b.byName {
		one.bar.Abort(false)
	}
	b.screen.Wait()
}

// filler draws a row: its name, a bar if it has a total, and its text.
func (b *bars) filler(one *rowBar) mpb.BarFillerFunc {
	bar := mpb.BarStyle().Build()
	return func(w io.Writer, stat decor.Statistics) error {
		r := one.row.Load()
		name := Printable(r.Name)
		if _, err := fmt.Fprintf(w, "%s%*s  ", name, int(b.widest.Load())-ansi.StringWidth(name), ""); err != nil {
			return err
		}
		left := stat.AvailableWidth - int(b.widest.Load()) - 2 - 1 // a full line would wrap
		if r.Total > 0 && left > barWidth {
			stat.Total, stat.Current = int64(r.Total), int64(min(r.Done, r.Total))
			stat.Completed, stat.Aborted = r.Done >= r.Total, false
			stat.RequestedWidth, stat.AvailableWidth = barWidth, barWidth
			if err := bar.Fill(w, stat); err != nil {
				return err
			}
			if _, err := io.WriteString(w, " "); err != nil {
				return err
			}
			left -= barWidth + 1
		}
		text := r.Text
		if r.Detail != "" {
			text += " (" + OneLine(r.Detail) + ")"
		}
		_, err := io.WriteString(w, ansi.Truncate(Printable(text), max(0, left), "…"))
		return err
	}
}
