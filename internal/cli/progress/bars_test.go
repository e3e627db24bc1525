package progress

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/vbauerster/mpb/v8"
)

// Away from a terminal there is one line per row and second at most, and the last
// state of each row is always printed.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := NewBars(&out)
		say := func(wait time.Duration, a, b string) {
			time.Sleep(wait)
			p.Progress([]Row{{Name: "a", Key: a, Text: a, Done: 1, Total: 2}, {Name: "b", Key: b, Text: b}})
		}
		say(0, "one", "one")
		say(300*time.Millisecond, "two", "one")   // too soon
		say(300*time.Millisecond, "three", "one") // still
		say(600*time.Millisecond, "three", "two")
		say(100*time.Millisecond, "four", "three")
		say(100*time.Millisecond, "three", "four") // a is as printed again
		p.Finish()
		if got, want := out.String(), "a: one\nb: one\na: three\nb: two\nb: four\n"; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

// On a terminal each row is a line with a bar, and the last ones stay.
func TestBars(t *testing.T) {
	var out bytes.Buffer
	b := newBars(&out, mpb.WithWidth(70))
	b.show([]Row{{Name: "web", Text: "pulling\x1b[2J", Detail: "layer 1 of 3", Done: 0, Total: 4}, {Name: "gone", Text: "no bar"}})
	b.show([]Row{
		{Name: "web", Text: "half", Done: 2, Total: 4}, {Name: "files", Text: strings.Repeat("long ", 20), Done: 9, Total: 4},
		{Name: "idle", Text: "no calls"},
	})
	b.finish()
	lines := strings.Split(strings.TrimRight(ansi.Strip(out.String()), "\n"), "\n")
	last := strings.Join(lines[max(0, len(lines)-3):], "\n")
	want := "web    [========>---------] half\n" +
		"files  [==================] long long long long long long long long …\n" +
		"idle   no calls"
	if last != want {
		t.Errorf("got\n%s\nwant\n%s\nin\n%q", last, want, out.String())
	}
}
