package progress

import (
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	var out strings.Builder
	p := New(&out)
	p.HideURLs()
	p.Event("pulling from http://registry\x1b[2J")
	p.Progress([]Row{{Name: "a", Key: "1", Text: "one", Detail: "x"}})
	p.Progress([]Row{{Name: "a", Key: "1", Text: "one again", Detail: "y"}})
	p.Progress([]Row{{Name: "a", Key: "2", Text: "two"}})
	p.Announce([]string{"ready: http://me"})
	p.Note([]Row{{Name: "a", Key: "3"}})
	p.Progress([]Row{{Name: "a", Key: "3", Text: "three"}})
	p.Event("see http://other")
	want := "pulling from registry [2J\na: one\na: two\nready: http://me\nsee http://other\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}

func TestLive(t *testing.T) {
	var out strings.Builder
	p := New(&out)
	p.HideURLs()
	p.live, p.size = true, func() (int, int) { return 20, 5 }
	rows := []Row{{Name: "a", Text: "one", Detail: "http://x"}, {Name: "long", Text: "a text that is too long"}}
	p.Progress(rows)
	p.Progress(rows) // not drawn again
	p.Event("news")
	p.Progress([]Row{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}})
	p.Announce([]string{"ready"})
	p.Event("more")
	want := "a     one (x)\nlong  a text that i\n" + "\x1b[2A\x1b[Jnews\na     one (x)\nlong  a text that i\n" +
		"\x1b[2A\x1b[Ja  \nb  \n... and 2 more\n" + "\x1b[3A\x1b[Jready\nmore\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}
