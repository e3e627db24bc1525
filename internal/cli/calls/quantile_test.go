package calls

import (
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	beyond := make([]uint64, 16)
	beyond[15] = 3
	for name, tt := range map[string]struct {
		counts []uint64
		q      float64
		want   time.Duration
		known  bool
	}{
		"no calls":                    {make([]uint64, 16), 0.5, 0, false},
		"no buckets":                  {nil, 0.5, 0, false},
		"half of the first bucket":    {[]uint64{10}, 0.5, 500 * time.Microsecond, true},
		"between two buckets":         {[]uint64{0, 0, 0, 0, 4, 4}, 0.5, 20 * time.Millisecond, true},
		"in the upper of two":         {[]uint64{0, 0, 0, 0, 4, 4}, 0.75, 35 * time.Millisecond, true},
		"the last call":               {[]uint64{99, 0, 0, 0, 0, 0, 0, 0, 1}, 0.995, 350 * time.Millisecond, true},
		"beyond the last bound":       {beyond, 0.5, time.Minute, true},
		"more buckets than are known": {append(make([]uint64, 16), 5), 0.5, time.Minute, true},
	} {
		if got, known := quantile(tt.counts, tt.q); got != tt.want || known != tt.known {
			t.Errorf("%s: %s, %v; want %s, %v", name, got, known, tt.want, tt.known)
		}
	}
}
