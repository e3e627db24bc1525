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
	p.MarkReported([]Row{{Name: "a", Key: "3"}})
	p.Progress([]Row{{Name: "a", Key: "3", Text: "three"}})
	p.Event("see http://other")
	want := "pulling from registry [2J\na: one\na: two\nready: http://me\nsee http://other\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}

func TestShorten(t *testing.T) {
	for name, tt := range map[string]struct {
		reason string
		most   int
		want   string
	}{
		"short":                    {"exit code 1", 20, "exit code 1"},
		"as long as there is room": {"exit code 1", 11, "exit code 1"},
		"lines":                    {"exit code 1:\n  no key", 30, "exit code 1: no key"},
		"the end goes":             {"no node fits: 2 nodes lack memory", 12, "no node fits..."},
		"runes, not bytes":         {"größer", 6, "größer"},
		"earlier log lines go first": {"exit code 3; last stderr: a banner | more of it | Error: no module x (replica r-1 on node n)", 60,
			"exit code 3; last stderr: Error: no module x (replica r-1 on..."},
		"the replica goes if that is enough": {"exit code 3; last stderr: Error: no key | at main (replica r-1 on node n did not start); 0 of 1 replica ready", 60,
			"exit code 3; last stderr: Error: no key | at main"},
		"only as many as need be": {"exit code 3; last stderr: a banner | more | Error: x", 45, "exit code 3; last stderr: more | Error: x"},
	} {
		if got := Shorten(tt.reason, tt.most); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestLive(t *testing.T) {
	var out strings.Builder
	p := New(&out)
	p.HideURLs()
	p.live, p.size = true, func() (int, int) { return 20, 5 }
	rows := []Row{{Name: "a", Text: "one", Detail: "http://x"}, {Name: "long", Text: "a text that is too long"}}
	p.Progress(rows)
	p.Progress(rows) // unchanged, so not drawn again
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
