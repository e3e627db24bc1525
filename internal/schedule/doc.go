// Package schedule ranks: which node gets a new replica, and which replica gets
// a call. It is pure: everything it needs comes as arguments, randomness
// included, and when nothing fits it says why in words. It keeps no state,
// does no I/O and starts no goroutine. Acting on its answer, and keeping the
// counts it is given true, is the business of packages reconcile and route.
package schedule
