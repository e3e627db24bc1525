package store

import "testing"

func TestWriteGate(t *testing.T) {
	var g writeGate
	if none := g.shut(); !closed(none) || g.enter() {
		t.Error("nobody is inside, and nobody may enter")
	}
	g.open()
	for range 2 {
		if !g.enter() {
			t.Fatal("open, and does not let in")
		}
	}
	first, second := g.shut(), g.shut()
	g.leave()
	if closed(first) || closed(second) {
		t.Error("one is inside")
	}
	g.leave()
	if !closed(first) || !closed(second) {
		t.Error("nobody is inside")
	}
	g.open()
	if g.enter() {
		t.Error("one of two opened it")
	}
	g.open()
	if !g.enter() {
		t.Error("both opened it")
	}
}
