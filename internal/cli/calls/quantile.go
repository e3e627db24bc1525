package calls

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// quantile returns the time within which the share q of calls were answered. counts
// are calls by their time, in the buckets of fleet.LatencyBounds and one more.
// Within a bucket, calls are taken to be spread evenly. Of calls beyond the last
// bound nothing else is known, so that bound is returned. Without calls it returns
// false.
func quantile(counts []uint64, q float64) (time.Duration, bool) {
	total := uint64(0)
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return 0, false
	}
	rank, below := q*float64(total), 0.0
	lower := time.Duration(0)
	for i, upper := range fleet.LatencyBounds {
		if i == len(counts) {
			break
		}
		n := float64(counts[i])
		if n > 0 && below+n >= rank {
			return lower + time.Duration((rank-below)/n*float64(upper-lower)), true
		}
		below, lower = below+n, upper
	}
	return lower, true
}
