// Package schedule chooses the node for a new replica and the replica for a call.
// If nothing fits it says why in words, and what would help. Everything that it needs
// comes as arguments, including randomness, and equal input gives equal output. Only
// a Room changes, as replicas are placed in it. The package does no I/O and starts no
// goroutine. Packages reconcile and route act on its answers.
package schedule
