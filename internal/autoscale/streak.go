package autoscale

import "time"

// resolution is into how many steps a streak divides the longest delay.
const resolution = 100

// streak remembers since when a wish has been at least how large without
// interruption. It is sorted: a larger wish has been there for less long.
type streak []held

// held means that the wish has been at least this large since then.
type held struct {
	since time.Time
	value int
}

// note takes down the wish from now on. keep is the longest delay that will be
// asked for.
func (s *streak) note(now time.Time, value int, keep time.Duration) {
	kept, since := *s, now
	for len(kept) > 0 && kept[len(kept)-1].value >= value {
		since = kept[len(kept)-1].since
		kept = kept[:len(kept)-1]
	}
	// Of wishes that grew within a short time only the first and the last are kept,
	// which delays the others by little. So a wish that grows all the time takes
	// little memory.
	if n := len(kept); n > 1 && since.Sub(kept[n-2].since) < keep/resolution {
		kept = kept[:n-1]
	}
	kept = append(kept, held{since, value})
	old := 0
	for old+1 < len(kept) && !kept[old+1].since.After(now.Add(-keep)) {
		old++
	}
	*s = append(kept[:0], kept[old:]...)
}

// after returns the largest wish that has been there for this long, if there is
// one. next is when one above a number will have been, zero for never.
func (s streak) after(now time.Time, delay time.Duration, above int) (value int, ok bool, next time.Time) {
	for _, h := range s {
		switch due := h.since.Add(delay); {
		case !due.After(now):
			value, ok = h.value, true
		case h.value > above:
			return value, ok, due
		}
	}
	return value, ok, time.Time{}
}
