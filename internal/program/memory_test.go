package program

import "testing"

func TestIdleness(t *testing.T) {
	const mb = 1 << 20
	i := new(idleness)
	for n, step := range []struct {
		allocated uint64
		want      bool
	}{
		{6 * mb, false},      // the start
		{7 * mb, false},      // idle, but little was ever used
		{7*mb + 1000, false}, // still
		{90 * mb, false},     // work
		{91 * mb, true},      // over
		{92 * mb, false},     // nothing new to give back
		{98 * mb, false},     // a little work
		{99 * mb, true},      // that adds up with what went before
	} {
		if got := i.look(step.allocated); got != step.want {
			t.Errorf("step %d, %d bytes: got %v", n, step.allocated, got)
		}
	}
}
