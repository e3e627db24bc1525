package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// line is one line of the screen.
type line struct {
	text string
	look look
}

// look is how a line looks.
type look int

const (
	plain   look = iota
	title        // bold
	header       // reversed
	cursor       // the chosen row
	problem      // a row that needs attention
	alarm        // no data
	faint        // help
)

// style returns the escape codes of a look.
func (l look) style() ansi.Style {
	switch l {
	case title:
		return ansi.NewStyle().Bold()
	case header:
		return ansi.NewStyle().Underline(true)
	case cursor:
		return ansi.NewStyle().Reverse(true)
	case problem:
		return ansi.NewStyle().ForegroundColor(ansi.Yellow)
	case alarm:
		return ansi.NewStyle().ForegroundColor(ansi.Red)
	case faint:
		return ansi.NewStyle().Faint()
	}
	return ansi.NewStyle()
}

// View implements tea.Model.
func (m model) View() tea.View {
	var b strings.Builder
	for i, l := range m.lines() {
		if i > 0 {
			b.WriteByte('\n')
		}
		if l.look == plain {
			b.WriteString(l.text)
			continue
		}
		b.WriteString(l.look.style().Styled(l.text))
	}
	v := tea.NewView(b.String())
	v.AltScreen = true
	v.WindowTitle = "mcpfleet top"
	return v
}

// fixedLines are the lines beside the rows: views, summary, status, header, detail
// and keys.
const fixedLines = 6

// roomForRows returns how many rows the screen has room for.
func (m *model) roomForRows() int { return max(1, m.height-fixedLines) }

// gap is the space between two columns.
const gap = 2

// lines returns the screen, each line cut to its width.
func (m *model) lines() []line {
	rows := m.rows()
	out := []line{{m.viewsLine(), title}, {m.summary(), plain}, {m.status(), alarm}}
	if m.help {
		for _, l := range helpText() {
			out = append(out, line{l, plain})
		}
	} else {
		out = append(out, m.tableLines(rows)...)
	}
	for len(out) < fixedLines-2+m.roomForRows() {
		out = append(out, line{})
	}
	out = append(out, line{m.detail(rows), plain}, line{m.keysLine(len(rows)), faint})
	for i := range out {
		out[i].text = ansi.Truncate(out[i].text, max(0, m.width), "…")
	}
	return out[:min(len(out), max(m.height, 0))]
}

// viewsLine names the views with their keys, the present one in brackets. The colon
// tells a key from a count.
func (m *model) viewsLine() string {
	names := viewNames()
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%d: %s", i+1, name)
		if i == m.view {
			parts[i] = "[" + parts[i] + "]"
		}
	}
	return fmt.Sprintf("%s   %s   %s", strings.Join(parts, "  "), m.report.At.Format(time.TimeOnly), m.at)
}

// summary returns the sums of the fleet.
func (m *model) summary() string {
	var all Figures
	calls, queued, ready, unready := 0.0, 0, 0, 0
	for _, s := range m.report.Servers {
		queued += s.Queued
		if s.Ready < s.Desired || s.State == fleet.StateUnavailable {
			unready++
		}
	}
	for _, r := range m.report.Replicas {
		if r.Calls != nil {
			calls += *r.Calls
		}
		if r.Phase == fleet.PhaseReady.String() {
			ready++
		}
		all.Ongoing += r.Ongoing
		all.CPUs += r.CPUs
		all.Memory += r.Memory
	}
	workers := 0
	for _, n := range m.report.Nodes {
		if n.Role == fleet.RoleWorker && strings.HasPrefix(n.State, api.NodeReady) {
			workers++
		}
	}
	servers := counted(len(m.report.Servers), "server")
	if unready > 0 {
		servers += fmt.Sprintf(" (%d not ready)", unready)
	}
	return fmt.Sprintf("%s  %s  %s  %s calls/s  %d ongoing  %d queued  %.2f CPUs  %s",
		servers, counted(ready, "replica"), counted(workers, "worker"), rate(&calls).text, all.Ongoing, queued, all.CPUs, format.Bytes(all.Memory))
}

// counted returns a number of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// tableLines returns the header and the rows that there is room for.
func (m *model) tableLines(rows []row) []line {
	t, s := &m.tables[m.view], m.states[m.view]
	names := make([]string, len(t.columns))
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
		if i == s.sort {
			names[i] += map[bool]string{false: "↓", true: "↑"}[s.reverse]
		}
		widths[i] = ansi.StringWidth(names[i])
		for _, r := range rows {
			widths[i] = max(widths[i], ansi.StringWidth(r.cells[i].text))
		}
	}
	shown := visible(t.columns, widths, s.sort, m.width)
	out := []line{{joined(t.columns, shown, widths, names), header}}
	for i := s.first; i < min(len(rows), s.first+m.roomForRows()); i++ {
		cells := make([]string, len(t.columns))
		for j, c := range rows[i].cells {
			cells[j] = c.text
		}
		l := line{joined(t.columns, shown, widths, cells), plain}
		switch {
		case i == s.index:
			l.look = cursor
			l.text += strings.Repeat(" ", max(0, m.width-ansi.StringWidth(l.text)))
		case rows[i].problem:
			l.look = problem
		}
		out = append(out, l)
	}
	return out
}

// leastText is the room that a cut column of text needs at least.
const leastText = 10

// visible returns the columns to show at a width: the first one, and as many of the
// others as there is room for, among them the one that the table is sorted by. A last
// column of text may be cut.
func visible(columns []column, widths []int, sort, width int) []int {
	for from := 1; ; from++ {
		shown, room := []int{0}, width-widths[0]
		for i := from; i < len(columns); i++ {
			least := widths[i]
			if !columns[i].number {
				least = min(least, leastText)
			}
			if room -= gap; room < least {
				break
			}
			shown, room = append(shown, i), room-widths[i]
		}
		if from >= sort || slices.Contains(shown, sort) {
			return shown
		}
	}
}

// joined returns the shown cells of a row, aligned.
func joined(columns []column, shown, widths []int, cells []string) string {
	var b strings.Builder
	for n, i := range shown {
		if n > 0 {
			b.WriteString(strings.Repeat(" ", gap))
		}
		pad := strings.Repeat(" ", widths[i]-ansi.StringWidth(cells[i]))
		if columns[i].number {
			b.WriteString(pad + cells[i])
		} else {
			b.WriteString(cells[i] + pad)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// detail returns the chosen row's reason in full.
func (m *model) detail(rows []row) string {
	if len(rows) == 0 {
		return ""
	}
	r := rows[m.states[m.view].index]
	if r.detail == "" {
		return ""
	}
	return r.key + ": " + r.detail
}

// keysLine returns the last line: the filter, or the keys.
func (m *model) keysLine(rows int) string {
	all := len(m.tables[m.view].rows)
	switch {
	case m.filtering:
		return fmt.Sprintf("filter: %s_   %d of %d   enter keeps it, esc drops it", m.filter, rows, all)
	case m.filter != "":
		return fmt.Sprintf("filter: %s   %d of %d   / changes it, esc drops it", m.filter, rows, all)
	}
	return "1 2 3 view   < > column   r reverse   / filter   ? help   q quit"
}

func helpText() []string {
	return []string{
		"",
		"1 2 3 Tab        servers, replicas, nodes",
		"< > left right   choose the column to sort by; columns without room come into view",
		"r                sort the other way round",
		"up down PgUp PgDn Home End   move; the reason of the chosen row is below the table",
		"/                show only rows that contain a text; Esc shows all",
		"q                quit",
		"",
		"CALLS/S, ERR/S, P50 and P95 are of the time since the reading before. ERR/S counts results with",
		"isError, errors, timeouts, and calls that were lost with their replica. QUEUED counts calls that",
		"wait at controllers. CPU is in cores.",
	}
}
