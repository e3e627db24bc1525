package up

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/term"
)

// printer writes events as lines and progress as a table, which on a terminal
// is drawn again and again below the events. Until the cluster is ready it
// shows no scheme of a URL: the first one in the output is the cluster's own.
type printer struct {
	out  io.Writer
	live bool                     // out is a terminal
	size func() (cols, lines int) // of the terminal

	mu    sync.Mutex
	ready bool
	table []string          // what is drawn, on a terminal
	drawn int               // in so many lines
	told  map[string]string // keys of rows
}

func newPrinter(out io.Writer) *printer {
	p := &printer{out: out, told: map[string]string{}, size: func() (int, int) { return 80, 24 }}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.live = true
		p.size = func() (int, int) {
			cols, lines, err := term.GetSize(int(f.Fd()))
			if err != nil || cols < 20 || lines < 5 {
				return 80, 24
			}
			return cols, lines
		}
	}
	return p
}

// event prints a line, or several, for good.
func (p *printer) event(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	table := p.table
	p.erase()
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(p.out, p.clean(line))
	}
	p.draw(table)
}

// progress shows how things are: all of it on a terminal, elsewhere what has
// changed.
func (p *printer) progress(rows []row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live {
		if table := tableOf(rows); !slices.Equal(table, p.table) {
			p.erase()
			p.draw(table)
		}
		return
	}
	for _, r := range rows {
		if p.told[r.name] != r.key {
			p.told[r.name] = r.key
			fmt.Fprintln(p.out, p.clean(r.name+": "+r.text))
		}
	}
}

// tableOf lines up the rows in columns.
func tableOf(rows []row) []string {
	widest := 0
	for _, r := range rows {
		widest = max(widest, len(r.name))
	}
	table := make([]string, len(rows))
	for i, r := range rows {
		table[i] = fmt.Sprintf("%-*s  %s", widest, r.name, r.text)
		if r.detail != "" {
			table[i] += " (" + oneLine(r.detail) + ")"
		}
	}
	return table
}

// note takes rows as told without printing them.
func (p *printer) note(rows []row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rows {
		p.told[r.name] = r.key
	}
}

// announce prints that the cluster is ready, in place of the table. From here
// on nothing is drawn, and lines are printed as they are.
func (p *printer) announce(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.ready, p.live = true, false
	for _, line := range lines {
		fmt.Fprintln(p.out, printable(line))
	}
}

// finish leaves the last table standing.
func (p *printer) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table, p.drawn, p.live = nil, 0, false
}

func (p *printer) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
	}
	p.table, p.drawn = nil, 0
}

func (p *printer) draw(table []string) {
	if !p.live {
		return
	}
	cols, lines := p.size()
	shown := table
	if most := lines - 2; len(table) > most { // what has scrolled away cannot be erased
		shown = append(table[:most-1:most-1], fmt.Sprintf("... and %d more", len(table)-most+1))
	}
	for _, line := range shown {
		r := []rune(p.clean(line))
		fmt.Fprintln(p.out, string(r[:min(len(r), cols-1)]))
	}
	p.table, p.drawn = table, len(shown)
}

// clean makes text from elsewhere fit for one line.
func (p *printer) clean(line string) string {
	if !p.ready {
		line = strings.ReplaceAll(line, "http://", "")
	}
	return printable(line)
}

// printable drops what would steer a terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, line)
}
