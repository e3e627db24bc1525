// Package progress prints the progress of several tasks to a terminal or a log.
// On a terminal it prints event lines, and below them a table, or bars, that it
// redraws. Elsewhere it prints one line for each change. Control characters in the
// text are replaced, so that quoted output cannot control the terminal.
//
// The methods of a Printer may be called at any time. One with bars has goroutines,
// and Finish waits for their end. Others have none.
package progress

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Printer writes events as lines and progress as a table.
type Printer struct {
	out  io.Writer
	live bool                     // out is a terminal
	size func() (cols, lines int) // of the terminal

	mu         sync.Mutex
	hideScheme bool              // URLs are shown without their scheme
	table      []string          // the table on the terminal
	drawn      int               // its number of lines
	reported   map[string]string // the last printed key of each row

	bars    *bars                // drawn instead of a table; nil: none
	pace    time.Duration        // least time between two lines of a row, away from a terminal
	printed map[string]time.Time // when the last line of each row was printed
	waiting map[string]Row       // rows that have changed too soon after that
}

// Row is one line of progress. Away from a terminal it is printed only when its
// key changes.
type Row struct {
	Name, Key string
	Text      string
	Detail    string // on terminals only; may change often
	// Printers with bars draw Done of Total as one. With a Total of 0 they draw none.
	Done, Total int
}

// New returns a printer.
func New(out io.Writer) *Printer { return NewThrough(out, out) }

// NewThrough returns a printer for out that writes to through, which must pass
// the output on. It uses out itself only to detect a terminal and its size.
func NewThrough(out, through io.Writer) *Printer {
	p := &Printer{
		out: through, reported: map[string]string{}, printed: map[string]time.Time{}, waiting: map[string]Row{},
		size: func() (int, int) { return 80, 24 },
	}
	if IsTerminal(out) {
		f := out.(*os.File)
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

// linePace is how often a printer with bars prints a line of a row, away from a
// terminal.
const linePace = time.Second

// NewBars returns a printer that draws bars on a terminal. Elsewhere, and on a terminal
// that does not know its size, it prints at most one line per row and second. It prints
// no events. The caller calls Finish.
func NewBars(out io.Writer) *Printer {
	p := New(out)
	p.pace = linePace
	p.live = p.live && hasSize(out.(*os.File))
	if p.live {
		p.bars = newBars(out)
	}
	return p
}

// hasSize reports whether a terminal knows its size. Without one, the library of the
// bars draws nothing.
func hasSize(terminal *os.File) bool {
	cols, lines, err := term.GetSize(int(terminal.Fd()))
	return err == nil && cols > 0 && lines > 0
}

// IsTerminal reports whether a file is a terminal that knows control sequences.
func IsTerminal(file any) bool {
	f, ok := file.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// HideURLs removes the scheme from URLs until Announce is called, so that the
// first URL in the output is an announced one.
func (p *Printer) HideURLs() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hideScheme = true
}

// Event prints one or more lines that stay.
func (p *Printer) Event(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	table := p.table
	p.erase()
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(p.out, p.clean(line))
	}
	p.draw(table)
}

// Progress shows the rows: all of them on a terminal, elsewhere those whose key
// has changed.
func (p *Printer) Progress(rows []Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.live && p.bars != nil:
		p.bars.show(rows)
		return
	case p.live:
		if table := tableOf(rows); !slices.Equal(table, p.table) {
			p.erase()
			p.draw(table)
		}
		return
	}
	for _, r := range rows {
		switch {
		case p.reported[r.Name] == r.Key:
			delete(p.waiting, r.Name)
		case time.Since(p.printed[r.Name]) < p.pace:
			p.waiting[r.Name] = r
		default:
			p.print(r)
		}
	}
}

// print prints the line of a row that has changed.
func (p *Printer) print(r Row) {
	p.reported[r.Name], p.printed[r.Name] = r.Key, time.Now()
	delete(p.waiting, r.Name)
	fmt.Fprintln(p.out, p.clean(r.Name+": "+r.Text))
}

// tableOf aligns the rows in columns.
func tableOf(rows []Row) []string {
	widest := 0
	for _, r := range rows {
		widest = max(widest, len(r.Name))
	}
	table := make([]string, len(rows))
	for i, r := range rows {
		table[i] = fmt.Sprintf("%-*s  %s", widest, r.Name, r.Text)
		if r.Detail != "" {
			table[i] += " (" + OneLine(r.Detail) + ")"
		}
	}
	return table
}

// MarkReported treats rows as printed without printing them.
func (p *Printer) MarkReported(rows []Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rows {
		p.reported[r.Name] = r.Key
	}
}

// Announce replaces the table by lines. From then on the printer draws no table,
// and URLs keep their scheme.
func (p *Printer) Announce(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.hideScheme, p.live = false, false
	for _, line := range lines {
		fmt.Fprintln(p.out, Printable(line))
	}
}

// Finish leaves the last table, or the last bars, on the terminal. Elsewhere it prints
// the rows that were to wait.
func (p *Printer) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars != nil {
		p.bars.finish()
		p.bars = nil
	}
	for _, name := range slices.Sorted(maps.Keys(p.waiting)) {
		p.print(p.waiting[name])
	}
	p.table, p.drawn, p.live = nil, 0, false
}

func (p *Printer) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
	}
	p.table, p.drawn = nil, 0
}

func (p *Printer) draw(table []string) {
	if !p.live {
		return
	}
	cols, lines := p.size()
	shown := table
	if most := lines - 2; len(table) > most { // lines that have scrolled away cannot be erased
		shown = append(table[:most-1:most-1], fmt.Sprintf("... and %d more", len(table)-most+1))
	}
	for _, line := range shown {
		r := []rune(p.clean(line))
		fmt.Fprintln(p.out, string(r[:min(len(r), cols-1)]))
	}
	p.table, p.drawn = table, len(shown)
}

// clean makes text fit to print as one line.
func (p *Printer) clean(line string) string {
	if p.hideScheme {
		line = strings.ReplaceAll(line, "http://", "")
	}
	return Printable(line)
}

// Printable replaces control characters by spaces. Names and reasons come from
// elsewhere, and must not control the terminal or break the line.
func Printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, line)
}

// OneLine shortens a reason that may quote a log to one line.
func OneLine(s string) string { return Shorten(s, 300) }

// Shorten turns a reason into one line of about most runes. The important parts
// are the beginning and the last of the log lines that it quotes. So the replica
// named at the end is cut if that suffices. Otherwise the earlier log lines are
// cut first, and then the end.
func Shorten(reason string, most int) string {
	s := strings.Join(strings.Fields(reason), " ")
	const replica, quotes, next = " (replica ", "stderr: ", " | "
	if at := strings.LastIndex(s, replica); at > 0 && utf8.RuneCountInString(s) > most && utf8.RuneCountInString(s[:at]) <= most {
		return s[:at]
	}
	for utf8.RuneCountInString(s) > most {
		head, quoted, found := strings.Cut(s, quotes)
		_, rest, several := strings.Cut(quoted, next)
		if !found || !several {
			break
		}
		s = head + quotes + rest
	}
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
