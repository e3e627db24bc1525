package program

import "testing"

func TestIdleness(t *testing.T) {
	const mb = 1 << 20
	i := new(idleness)
	for n, step := range []struct {
		allocated uint64
		want      bool
	}{
		{3 * mb, false},      // the start
		{3*mb + 900, false},  // idle, but little was ever used
		{3*mb + 1000, false}, // still
		{90 * mb, false},     // work
		{91 * mb, true},      // over
		{92 * mb, false},     // nothing new to give back
		{94 * mb, false},     // a little housekeeping
		{96 * mb, true},      // that adds up with what went before
		{103 * mb, true},     // as much as an idle leader does
	} {
		if got := i.look(step.allocated); got != step.want {
			t.Errorf("step %d, %d bytes: got %v", n, step.allocated, got)
		}
	}
}
