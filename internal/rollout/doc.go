// Package rollout watches over new revisions: it judges by their calls whether they
// serve worse than the old ones.
package rollout
