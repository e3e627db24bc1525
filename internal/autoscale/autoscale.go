// Package autoscale decides how many replicas the servers have that scale by
// themselves.
package autoscale

import "github.com/mcpfleet/mcpfleet/internal/fleet"

// Loads is how much the servers have to do. Package load implements it.
type Loads interface {
	// Subscribe begins a watch. look receives a value when a load, or what is
	// missing, has changed. take returns what has changed since it was called
	// last; the first call returns everything. Its cost depends on what has
	// changed, not on the number of servers. One goroutine at a time calls take.
	// cancel ends the watch.
	Subscribe() (look <-chan struct{}, take func() fleet.LoadNews, cancel func())
}
