package program

import (
	"runtime"
	"testing"
)

func TestHalveProcs(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, tt := range []struct {
		procs int
		env   string
		want  int
	}{
		{1, "", 1}, {2, "", 1}, {3, "", 1}, {4, "", 2}, {16, "", 8}, {16, "16", 16},
	} {
		runtime.GOMAXPROCS(tt.procs)
		HalveProcs(func(name string) (string, bool) { return tt.env, name == "GOMAXPROCS" && tt.env != "" })
		if got := runtime.GOMAXPROCS(0); got != tt.want {
			t.Errorf("%d processors, GOMAXPROCS %q: uses %d, want %d", tt.procs, tt.env, got, tt.want)
		}
	}
}
