package program

import "runtime"

// HalveProcs makes a program that shares its machine use half of the processors,
// at least one. The other half is for the rest of the fleet, for servers and
// clients. A Go program with more processors than work wakes threads only to find
// nothing to do: on two processors, `mcpfleet up` with one worker answers 1.2
// times the calls at 64 at once, and 1.4 times at one at a time. HalveProcs does
// nothing if the user has set GOMAXPROCS.
func HalveProcs(lookup func(string) (string, bool)) {
	if _, set := lookup("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}
