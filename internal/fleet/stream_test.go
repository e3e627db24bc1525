package fleet

import (
	"errors"
	"strings"
	"testing"
)

func TestEventIDAndAskID(t *testing.T) {
	life, stream := NewLifeID(), NewStreamID()
	for _, id := range []EventID{
		{life, stream, 0}, {life, stream, 1}, {life, stream, 1<<64 - 1}, {"l1", SessionStream("0123456789abcdef", "a-server_1"), 7},
	} {
		got, err := ParseEventID(id.String())
		if err != nil || got != id {
			t.Errorf("ParseEventID(%q) = %v, %v", id, got, err)
		}
		ask, err := ParseAskID(id.String())
		if err != nil || ask != (AskID{id.Life, id.Stream, id.Seq}) || ask.String() != id.String() {
			t.Errorf("ParseAskID(%q) = %v, %v", id, ask, err)
		}
	}
}

func TestMalformedIDs(t *testing.T) {
	for _, s := range []string{
		"", ".", "..", "l1", "l1.s1", "l1.s1.", "l1..1", ".s1.1", "l1.s1.-1", "l1.s1.+1", "l1.s1.01", "l1.s1.1.1", "l1.s1.1 ",
		"l1.s1.18446744073709551616", "l1.s 1.1", "l1.session:.1", "l1.session:s1.1", "l1.session::s1.1", "l1.other:s1.1", "l1." + strings.Repeat("s", 65) + ".1",
		"l1.s1\n.1",
	} {
		if id, err := ParseEventID(s); !errors.Is(err, ErrBadID) {
			t.Errorf("ParseEventID(%q) = %v, %v", s, id, err)
		}
		if id, err := ParseAskID(s); !errors.Is(err, ErrBadID) {
			t.Errorf("ParseAskID(%q) = %v, %v", s, id, err)
		}
	}
}

func TestCoveringURI(t *testing.T) {
	for _, tt := range []struct{ uri, want string }{
		{"file:///a", "file:///a"}, {"file:///a/b/c", "file:///a"}, {"file:///ab", ""}, {"file:///", ""},
		{"file:///dir/x", "file:///dir/"}, {"file:///dirx", ""}, {"mem:1", "mem:1"}, {"mem:12", ""}, {"", ""},
	} {
		if got := CoveringURI([]string{"file:///a", "file:///dir/", "mem:1"}, tt.uri); got != tt.want {
			t.Errorf("%q is covered by %q, want %q", tt.uri, got, tt.want)
		}
	}
}

func TestStreamIDsDiffer(t *testing.T) {
	if a, b := NewStreamID(), NewStreamID(); a == b || len(a) != 32 {
		t.Errorf("%q and %q", a, b)
	}
}
