// Package progress tells on a terminal or in a log how things come along: lines
// that stay, and below them a table that is drawn again and again; where there
// is no terminal, a line for each thing that has changed. What comes from
// elsewhere cannot steer the terminal.
//
// It starts no goroutine. The methods of a Printer may be called at any time.
package progress

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// Printer writes events as lines and progress as a table.
type Printer struct {
	out  io.Writer
	live bool                     // out is a terminal
	size func() (cols, lines int) // of the terminal

	mu    sync.Mutex
	bare  bool              // URLs are shown without their scheme
	table []string          // what is drawn, on a terminal
	drawn int               // in so many lines
	told  map[string]string // keys of rows
}

// Row is one line of progress. It is news when its key has changed; the rest
// may change at any time.
type Row struct {
	Name, Key string
	Text      string
	Detail    string // for terminals, where it can change often
}

// New returns a printer.
func New(out io.Writer) *Printer { return NewThrough(out, out) }

// NewThrough returns a printer for out that writes to through, which passes it
// on. It looks at out only to find out whether it is a terminal, and its size.
func NewThrough(out, through io.Writer) *Printer {
	p := &Printer{out: through, told: map[string]string{}, size: func() (int, int) { return 80, 24 }}
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

// HideURLs shows no scheme of a URL until Announce: the first URL in the output
// is one that was announced.
func (p *Printer) HideURLs() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bare = true
}

// Event prints a line, or several, for good.
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

// Progress shows how things are: all of it on a terminal, elsewhere what has
// changed.
func (p *Printer) Progress(rows []Row) {
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
		if p.told[r.Name] != r.Key {
			p.told[r.Name] = r.Key
			fmt.Fprintln(p.out, p.clean(r.Name+": "+r.Text))
		}
	}
}

// tableOf lines up the rows in columns.
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

// Note takes rows as told without printing them.
func (p *Printer) Note(rows []Row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rows {
		p.told[r.Name] = r.Key
	}
}

// Announce prints lines in place of the table. From here on nothing is drawn,
// and lines are printed as they are.
func (p *Printer) Announce(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.bare, p.live = false, false
	for _, line := range lines {
		fmt.Fprintln(p.out, Printable(line))
	}
}

// Finish leaves the last table standing.
func (p *Printer) Finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
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
func (p *Printer) clean(line string) string {
	if p.bare {
		line = strings.ReplaceAll(line, "http://", "")
	}
	return Printable(line)
}

// Printable makes spaces of what would steer a terminal or end the line: names
// and reasons come from elsewhere.
func Printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, line)
}

// OneLine cuts a reason that quotes a log to what fits a line.
func OneLine(s string) string { return Shorten(s, 300) }

// Shorten makes one line of a reason, of about so many runes. The cause is its
// beginning, and of the log lines that it quotes the last one: where there is
// not enough room, the replica that is named last goes if that is enough.
// Otherwise the earlier log lines go first, then the end.
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
