package recent

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"
)

func TestMap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Map[string, int]
		is := func(what, want string) {
			t.Helper()
			if got := fmt.Sprint(maps.Collect(m.All())); got != want {
				t.Errorf("%s: got %s, want %s", what, got, want)
			}
		}
		is("the zero value", "map[]")
		m.Put("a", 1)
		time.Sleep(Span / 2)
		m.Put("b", 2)
		m.Put("b", 3)
		time.Sleep(Span / 2)
		is("within the span", "map[a:1 b:3]")
		time.Sleep(time.Nanosecond)
		is("after that of one", "map[b:3]")
		for key := range m.All() {
			if key != "b" {
				t.Errorf("got %s", key)
			}
			break
		}
	})
}

func TestMapIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Map[int, int]
		for i := range most {
			m.Put(-i-1, i)
		}
		time.Sleep(Span + 1)
		m.Put(0, 0)
		if len(m.all) != 1 {
			t.Errorf("%d are kept after the span", len(m.all))
		}
		for i := range 2 * most {
			if m.Put(i, i); len(m.all) > most {
				t.Fatalf("%d are kept", len(m.all))
			}
		}
	})
}
