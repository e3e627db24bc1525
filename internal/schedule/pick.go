package schedule

// Candidate is one READY replica as a router sees it.
type Candidate struct {
	Load  int    // calls that hold a slot on it
	Limit int    // how many it may have; 0 or less: no limit
	Zone  string // of its node
}

func (c *Candidate) full() bool { return c.Limit > 0 && c.Load >= c.Limit }

// Pick returns the index of the candidate that should get the next call, or -1 if
// there is no candidate below its limit. The least loaded wins, of equals one in
// the caller's own zone, of those a random one. rnd(n) must return a number in
// [0, n). With an empty zone all zones are equal. Pick runs once per call, so it
// allocates nothing and reads the candidates twice at most.
func Pick(c []Candidate, zone string, rnd func(n int) int) int {
	best, load, near, ties := -1, 0, false, 0
	for i := range c {
		if c[i].full() {
			continue
		}
		n := zone != "" && c[i].Zone == zone
		switch {
		case best < 0, c[i].Load < load, c[i].Load == load && n && !near:
			best, load, near, ties = i, c[i].Load, n, 1
		case c[i].Load == load && n == near:
			ties++
		}
	}
	if ties < 2 {
		return best
	}
	for i, k := best, rnd(ties); ; i++ {
		if c[i].full() || c[i].Load != load || (zone != "" && c[i].Zone == zone) != near {
			continue
		}
		if k == 0 {
			return i
		}
		k--
	}
}
