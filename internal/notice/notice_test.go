package notice

import "testing"

func got(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestBoard(t *testing.T) {
	var b Board
	b.Post() // nobody there: no block, and not repeated
	one, cancelOne := b.Subscribe()
	two, cancelTwo := b.Subscribe()
	defer cancelTwo()
	if got(one) {
		t.Error("a notice posted before the subscription arrived")
	}
	b.Post()
	b.Post()
	if !got(one) || !got(two) {
		t.Error("a subscriber missed the notice")
	}
	if got(one) {
		t.Error("two waiting notices did not become one")
	}
	cancelOne()
	b.Post()
	if got(one) {
		t.Error("a notice arrived after the subscription ended")
	}
	if !got(two) {
		t.Error("the other subscription ended too")
	}
}
