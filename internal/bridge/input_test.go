package bridge

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	in := "one\n\r\n  \ntwo\r\n" + `{"id":7,"method":"m","x":"` + long + "\"}\n" + `{"id":8,"result":"` + long + "\"}\n" + strings.Repeat("y", 100_000) + "\nlast"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "halves": iotest.HalfReader(strings.NewReader(in))} {
		l := newLines(r)
		l.max = 150_000
		for _, want := range []string{"one", "two"} {
			if got, err := l.next(); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
		_, err := l.next()
		if long, ok := errors.AsType[*tooLongLine](err); !ok || !long.request || string(long.id) != "7" {
			t.Errorf("%s: got %v", name, err)
		}
		_, err = l.next()
		if long, ok := errors.AsType[*tooLongLine](err); !ok || long.request || string(long.id) != "8" {
			t.Errorf("%s: got %v", name, err)
		}
		if got, err := l.next(); err != nil || len(got) != 100_000 {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
		if got, err := l.next(); err != nil || string(got) != "last" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if _, err := l.next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestIDs(t *testing.T) {
	for _, same := range [][2]string{{`1`, `1.0`}, {`"a"`, `"\u0061"`}, {`10`, `1e1`}, {`"1"`, `"1"`}} {
		if idKey([]byte(same[0])) != idKey([]byte(same[1])) {
			t.Errorf("%s and %s are different", same[0], same[1])
		}
	}
	for _, other := range [][2]string{{`1`, `"1"`}, {`1`, `2`}, {`9007199254740993`, `9007199254740992`}, {`1.5`, `1`}} {
		if idKey([]byte(other[0])) == idKey([]byte(other[1])) {
			t.Errorf("%s and %s are the same", other[0], other[1])
		}
	}
}
