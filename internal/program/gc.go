package program

import "runtime/debug"

// TuneGC trades memory for speed (1.2-1.4 times the calls, some 24 MiB), within
// a bound that depends on the machine's memory in bytes (0: unknown), unless
// the user has decided: GOGC or GOMEMLIMIT is set.
func TuneGC(memory int64, lookup func(string) (string, bool)) {
	_, percent := lookup("GOGC")
	_, limit := lookup("GOMEMLIMIT")
	if percent || limit {
		return
	}
	const least, most = 128 << 20, 1 << 30
	bound := int64(most)
	if memory > 0 {
		bound = min(max(memory/4, least), most)
	}
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(bound)
}
