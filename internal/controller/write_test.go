package controller

import (
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/httpapi"
)

func TestWriteGate(t *testing.T) {
	var g writeGate
	closed := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
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

// What is read without a leader is denied for no other reasons than tools are:
// a controller that was cut off, or has just started, denies nothing.
func TestStaleTellsAllThatMayBeMissing(t *testing.T) {
	var why string
	var d httpapi.Desired = &writes{mayLack: func() string { return why }}
	for _, why = range []string{"this controller was stopped or cut off, and does not know yet all that was written meanwhile", ""} {
		if got := d.Stale(); got != why {
			t.Errorf("got %q, want %q", got, why)
		}
	}
}
