// Package rollout watches over new revisions of servers while they are rolled out.
// Only the leader runs it.
//
// It makes the verify calls to the first replica of a new revision, before that
// takes any other call, and compares the tools of both revisions. It judges the new
// revision by its calls, against those of the old one over the same time, and takes
// a canary from step to step. What it finds it writes to desired state: that the
// revision passed its checks, that the rollout goes a step further or waits for
// someone, or that it failed.
//
// What that means is up to others: package reconcile starts and stops the replicas,
// and package projection decides which of them get calls. A rollout without progress
// is reconcile's to give up.
//
// Desired state has all that a new leader must know. The counts of calls are not
// among it: a new leader judges by what it sees from its own first look on.
//
// Judge is pure. Loop.Run owns all goroutines: one for each check and each write under
// way.
package rollout
