package program

import "testing"

func TestIdleDetector(t *testing.T) {
	const mb = 1 << 20
	d := new(idleDetector)
	for n, step := range []struct {
		allocated uint64
		want      bool
	}{
		{3 * mb, false},      // the start
		{3*mb + 900, false},  // idle, but little was ever used
		{3*mb + 1000, false}, // still idle
		{90 * mb, false},     // busy
		{91 * mb, true},      // idle again
		{92 * mb, false},     // nothing new to return
		{94 * mb, false},     // a little housekeeping
		{96 * mb, true},      // housekeeping has added up
		{103 * mb, true},     // as much as an idle leader allocates
	} {
		if got := d.sample(step.allocated); got != step.want {
			t.Errorf("step %d, %d bytes: got %v", n, step.allocated, got)
		}
	}
}
