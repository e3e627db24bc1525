package top

import (
	"fmt"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"
)

// model is all that the screen depends on. Only Update changes it, and only messages
// bring in time and data.
type model struct {
	width, height int
	at            string // where the data comes from

	now     *Reading // the last one
	report  Report   // of that
	tables  [views]table
	failure string    // why the last try to read failed; "": it did not
	tried   time.Time // when that was

	view      int
	states    [views]viewState
	filter    string
	filtering bool // the filter is being typed
	help      bool
}

// viewState is how the user has arranged one view.
type viewState struct {
	sort    int // index of a column
	reverse bool
	cursor  string // key of the chosen row; "" before the user has moved
	index   int    // of that row, or of the one in its place if it is gone
	first   int    // the row at the top of the screen
}

// readMsg is a new reading.
type readMsg struct{ reading Reading }

// failedMsg says that there is no new reading, and why.
type failedMsg struct {
	at  time.Time
	err error
}

// newModel returns a model that shows the first reading, sorted by a column where a
// view has it.
func newModel(at, sort string, first Reading) model {
	m := model{at: at}
	m.show(first)
	for i := range m.states {
		m.states[i].sort = sortColumn(&m.tables[i], sort)
	}
	m.settle()
	return m
}

// defaultSort is the column that tables are sorted by at first.
const defaultSort = "CALLS/S"

// sortColumn returns the index of a column, or that of the default one if the table
// has no such column.
func sortColumn(t *table, name string) int {
	if i := t.column(name); i >= 0 {
		return i
	}
	return t.column(defaultSort)
}

// Columns returns the names of all columns that a view can be sorted by.
func Columns() []string {
	var names []string
	for _, t := range tables(&Report{}) {
		for _, c := range t.columns {
			if !slices.Contains(names, c.name) {
				names = append(names, c.name)
			}
		}
	}
	return names
}

// Init implements tea.Model.
func (m model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case readMsg:
		m.failure = ""
		m.show(msg.reading)
	case failedMsg:
		m.failure, m.tried = oneLine(msg.err.Error()), msg.at
	case tea.KeyPressMsg:
		cmd = m.press(msg)
	}
	m.settle()
	return m, cmd
}

// show takes in a reading.
func (m *model) show(r Reading) {
	m.report = NewReport(m.now, r)
	m.now, m.tables = &r, tables(&m.report)
}

// press does what a key stands for.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	if key.String() == "ctrl+c" {
		return tea.Quit
	}
	if m.filtering {
		m.pressInFilter(key)
		return nil
	}
	s, page := &m.states[m.view], max(1, m.roomForRows()-1)
	last := len(m.tables[m.view].columns) - 1
	switch key.String() {
	case "q":
		return tea.Quit
	case "?":
		m.help = !m.help
	case "esc":
		m.help, m.filter = false, ""
	case "/":
		m.filtering, m.help = true, false
	case "1", "2", "3":
		m.view = int(key.String()[0] - '1')
	case "tab":
		m.view = (m.view + 1) % views
	case "shift+tab":
		m.view = (m.view + views - 1) % views
	case "<", ",", "left":
		s.sort = max(0, s.sort-1)
	case ">", ".", "right":
		s.sort = min(last, s.sort+1)
	case "r":
		s.reverse = !s.reverse
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-page)
	case "pgdown", "space":
		m.move(page)
	case "home", "g":
		m.move(-len(m.tables[m.view].rows))
	case "end", "G":
		m.move(len(m.tables[m.view].rows))
	}
	return nil
}

// pressInFilter edits the filter.
func (m *model) pressInFilter(key tea.KeyPressMsg) {
	switch key.String() {
	case "enter":
		m.filtering = false
	case "esc":
		m.filtering, m.filter = false, ""
	case "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	default:
		m.filter += key.Text
	}
}

// rows returns the rows of the present view, filtered and sorted.
func (m *model) rows() []row {
	s := m.states[m.view]
	return m.tables[m.view].sorted(s.sort, s.reverse, m.filter)
}

// move moves the cursor by a number of rows.
func (m *model) move(by int) {
	s, rows := &m.states[m.view], m.rows()
	if len(rows) == 0 {
		return
	}
	s.index = min(max(0, s.index+by), len(rows)-1)
	s.cursor = rows[s.index].key
}

// settle puts the cursor on its row, wherever that is now, and moves the rows so
// that it can be seen. If the row is gone, another one takes its place.
func (m *model) settle() {
	s, rows := &m.states[m.view], m.rows()
	if i := slices.IndexFunc(rows, func(r row) bool { return r.key == s.cursor }); i >= 0 {
		s.index = i
	}
	s.index = max(0, min(s.index, len(rows)-1))
	if s.cursor != "" && len(rows) > 0 {
		s.cursor = rows[s.index].key
	}
	room := m.roomForRows()
	s.first = max(s.index-room+1, min(s.first, s.index, max(0, len(rows)-room)))
}

// status says why the data may be old, or "".
func (m *model) status() string {
	if m.failure != "" {
		return fmt.Sprintf("no answer at %s, still trying; this is from %s: %s",
			m.tried.Format(time.TimeOnly), m.report.At.Format(time.TimeOnly), m.failure)
	}
	return m.report.Note
}
