package top

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

var update = flag.Bool("update", false, "write the files of testdata")

// screen returns a model of the test's fleet at a size.
func screen(width, height int) model {
	before, now := readings()
	m := tea.Model(newModel("http://c1:8000", "", before))
	for _, msg := range []tea.Msg{tea.WindowSizeMsg{Width: width, Height: height}, readMsg{now}} {
		m, _ = m.Update(msg)
	}
	return m.(model)
}

// press feeds keys to a model. Each is a character or the name of a key.
func press(m model, keys ...string) model {
	named := map[string]rune{
		"tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown,
		"home": tea.KeyHome, "end": tea.KeyEnd, "esc": tea.KeyEscape, "enter": tea.KeyEnter, "backspace": tea.KeyBackspace,
	}
	for _, key := range keys {
		msg := tea.KeyPressMsg{Code: []rune(key)[0], Text: key}
		if code, ok := named[key]; ok {
			msg = tea.KeyPressMsg{Code: code}
		}
		next, _ := m.Update(msg)
		m = next.(model)
	}
	return m
}

// shown returns the screen as text.
func shown(m model) string {
	var b strings.Builder
	for _, l := range m.lines() {
		fmt.Fprintln(&b, strings.TrimRight(l.text, " "))
	}
	return b.String()
}

func TestScreens(t *testing.T) {
	for _, width := range []int{100, 200} {
		for i, name := range viewNames() {
			t.Run(fmt.Sprintf("%s at %d columns", name, width), func(t *testing.T) {
				m := press(screen(width, 12), fmt.Sprint(i+1))
				got := shown(m)
				path := filepath.Join("testdata", fmt.Sprintf("%s-%d.txt", name, width))
				if *update {
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil || got != string(want) {
					t.Errorf("%v: got\n%s\nwant\n%s", err, got, want)
				}
				for i, line := range strings.Split(m.View().Content, "\n") {
					if w := ansi.StringWidth(line); w > width || i >= 12 {
						t.Errorf("line %d is %d columns wide", i, w)
					}
				}
			})
		}
	}
}

func TestPrint(t *testing.T) {
	before, now := readings()
	r := NewReport(&before, now)
	var b strings.Builder
	if err := Print(&b, &r, "server"); err != nil {
		t.Fatal(err)
	}
	got, path := b.String(), filepath.Join("testdata", "once.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || got != string(want) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, got, want)
	}
}

// order returns the first cells of the rows on the screen.
func order(m model) string {
	var names []string
	for _, r := range m.rows() {
		names = append(names, r.cells[0].text)
	}
	return strings.Join(names, " ")
}

func TestKeys(t *testing.T) {
	for name, tt := range map[string]struct {
		keys  string // with spaces between
		view  int
		order string
		at    string // the row with the cursor
	}{
		"at first, by calls":               {"", serversView, "web files nightly-report", ""},
		"the other way round":              {"r", serversView, "files nightly-report web", ""},
		"by the column before":             {"<", serversView, "nightly-report web files", ""},
		"by the first column":              {"< < < < < <", serversView, "files nightly-report web", ""},
		"by queue":                         {"> right > . right", serversView, "web files nightly-report", ""},
		"beyond the last column":           {"> > > > > > > > > > > > > >", serversView, "files nightly-report web", ""},
		"another view":                     {"2", replicasView, "web-3-bb web-3-cc files-1-aa web-4-dd", ""},
		"the next view":                    {"tab tab", nodesView, "n1 n2 c1", ""},
		"each view has its own order":      {"r 3 tab", serversView, "files nightly-report web", ""},
		"down":                             {"down", serversView, "web files nightly-report", "files"},
		"up":                               {"down down up", serversView, "web files nightly-report", "files"},
		"far up":                           {"up up up", serversView, "web files nightly-report", "web"},
		"down pages":                       {"home pgdown", serversView, "web files nightly-report", "nightly-report"},
		"to the end and up a page":         {"end pgup", serversView, "web files nightly-report", "web"},
		"the cursor stays on its row":      {"down down r", serversView, "files nightly-report web", "nightly-report"},
		"filtered":                         {"end / R E p enter", serversView, "web nightly-report", "nightly-report"},
		"the chosen row is filtered out":   {"end / w e b enter", serversView, "web", "web"},
		"filtered by any column":           {"/ U N N Y backspace backspace backspace p d", serversView, "web", ""},
		"keys are text of the filter":      {"/ q r", serversView, "", ""},
		"the filter is dropped":            {"/ w e b enter esc", serversView, "web files nightly-report", ""},
		"the filter is dropped as typed":   {"/ w e b esc", serversView, "web files nightly-report", ""},
		"the filter is that of every view": {"/ n 2 enter 2", replicasView, "web-3-cc web-4-dd", ""},
		"help does not change the rows":    {"? r ?", serversView, "files nightly-report web", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := press(screen(100, 20), strings.Fields(tt.keys)...)
			s := m.states[m.view]
			if got := order(m); m.view != tt.view || got != tt.order || s.cursor != tt.at {
				t.Errorf("view %d, rows %s, cursor at %s; want %d, %s and %s", m.view, got, s.cursor, tt.view, tt.order, tt.at)
			}
		})
	}
}

func TestQuit(t *testing.T) {
	for _, key := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: 'c', Mod: tea.ModCtrl}} {
		if _, cmd := screen(100, 20).Update(key); cmd == nil || cmd() != tea.Quit() {
			t.Errorf("%s does not quit", key)
		}
	}
	if _, cmd := press(screen(100, 20), "/").Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd != nil {
		t.Error("typing a filter quits")
	}
}

// On a low screen the rows scroll with the cursor.
func TestScrolling(t *testing.T) {
	m := press(screen(100, fixedLines+2), "2", "home")
	if got := shown(m); !strings.Contains(got, "web-3-bb") || !strings.Contains(got, "web-3-cc") || strings.Contains(got, "files-1") {
		t.Errorf("at the top:\n%s", got)
	}
	if got := shown(press(m, "down", "down")); strings.Contains(got, "web-3-bb") || !strings.Contains(got, "files-1") {
		t.Errorf("scrolled by one:\n%s", got)
	}
	if got := shown(press(m, "end", "up")); !strings.Contains(got, "files-1") || !strings.Contains(got, "web-4-dd") {
		t.Errorf("one up from the end:\n%s", got)
	}
	if got := shown(press(m, "end", "/", "c", "c", "enter")); !strings.Contains(got, "web-3-cc") {
		t.Errorf("scrolled beyond what the filter left:\n%s", got)
	}
	for _, height := range []int{0, 1, 3, fixedLines} { // must not panic
		if got := shown(press(screen(10, height), "end")); strings.Count(got, "\n") > height {
			t.Errorf("%d lines:\n%s", height, got)
		}
	}
}

// A column that has no room comes into view when the table is sorted by it.
func TestColumnsComeIntoView(t *testing.T) {
	m := screen(60, 20)
	if got := shown(m); strings.Contains(got, "MEMORY") {
		t.Fatalf("60 columns have room for all:\n%s", got)
	}
	m = press(m, strings.Fields("> > > > > > >")...)
	if got := shown(m); !strings.Contains(got, "MEMORY↓") || !strings.Contains(got, "SERVER") || strings.Contains(got, "STATE") {
		t.Errorf("sorted by memory:\n%s", got)
	}
}

// Without an answer the screen keeps what it has, and says so until there is one.
func TestFailures(t *testing.T) {
	m := screen(120, 20)
	next, _ := m.Update(failedMsg{noon().Add(9 * time.Second), errors.New("no controller answers:\x1b[2J refused")})
	got := shown(next.(model))
	if want := "no answer at 12:00:09, still trying; this is from 12:00:00: no controller answers: [2J refused\n"; !strings.Contains(got, want) || !strings.Contains(got, "nightly-report") {
		t.Errorf("got\n%s\nwant %s", got, want)
	}
	_, later := readings()
	later.At, later.Note = noon().Add(10*time.Second), "there is no leader now"
	next, _ = next.Update(readMsg{later})
	if got := shown(next.(model)); strings.Contains(got, "no answer") || !strings.Contains(got, "there is no leader now") {
		t.Errorf("after an answer:\n%s", got)
	}
}
