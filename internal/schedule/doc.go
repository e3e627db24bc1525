// Package schedule chooses the node for a new replica and the replica for a call.
// If nothing fits it says why in words. It is pure: everything that it needs comes
// as arguments, including randomness. It keeps no state, does no I/O and starts no
// goroutine. Packages reconcile and route act on its answers, and keep the counts
// that they pass in.
package schedule
