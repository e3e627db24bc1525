package program

import "runtime/debug"

// TuneGC trades memory for speed: 1.2 to 1.4 times the calls for some 24 MiB.
// The memory limit is a quarter of the machine's memory, within bounds; memory
// is in bytes, and 0 means unknown. TuneGC does nothing if the user has set
// GOGC or GOMEMLIMIT.
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
