// Package autoscale decides how many replicas the servers have that scale by
// themselves. The policy is a pure function: load history, spec, present target and
// clock in, next target and a reason in words out (policy.go). A loop on the leader
// feeds it and has the targets written (loop.go).
//
// The package promises:
//
//   - A step of load is answered in full within a second, if upscale_delay_s is 0.
//   - A steady load does not make targets go up and down.
//   - Nothing is scaled down while a part of the load is not known, nor before a
//     leader has seen the load for a full look-back.
//   - A target is written only if it changes, one write for a server at a time, and
//     again if it fails.
//   - Work is done for servers whose load or spec has changed, or whose time has
//     come. The number of servers matters only when desired state changes.
//
// It leaves to others to count calls, to place and to stop replicas, and to choose
// those that stop. Run owns every goroutine. Other functions and types belong to one
// goroutine at a time.
package autoscale

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Desired is what users asked for. Package store implements it.
type Desired interface {
	State() *desired.State
	Subscribe() (look <-chan struct{}, cancel func())
}

// Loads is how much the servers have to do. Package load implements it.
type Loads interface {
	// Subscribe begins a watch. look receives a value when a load, or what is
	// missing, has changed. take returns what has changed since it was called
	// last; the first call returns everything. Its cost depends on what has
	// changed, not on the number of servers. One goroutine at a time calls take.
	// cancel ends the watch.
	Subscribe() (look <-chan struct{}, take func() fleet.LoadNews, cancel func())
}

// Config is what a Scaler needs.
type Config struct {
	Desired Desired
	Loads   Loads
	// Write makes a target durable. written is that of the spec by which it was
	// decided: the target is not for any other. Write is called from goroutines of
	// their own.
	Write    func(ctx context.Context, server fleet.ServerName, replicas int, written uint64, reason string) error
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Scaler scales servers while its controller leads.
type Scaler struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
}

// New returns a Scaler. Its Run does the work.
func New(cfg Config) *Scaler {
	return &Scaler{cfg: cfg, log: cfg.Log.With("component", "autoscale"), metrics: newMetrics(cfg.Registry)}
}

const (
	// Batch is the least time between two looks at the loads.
	Batch = 50 * time.Millisecond
	// passShare is the least pause after a pass, in times of what the pass took.
	passShare = 4
	// writeTimeout bounds one try to write a target.
	writeTimeout = 10 * time.Second
	// writeRetry is the wait before a target is tried again that was not written.
	writeRetry = time.Second
	// backup is the longest time between two looks.
	backup = 5 * time.Second
	// maxWrites bounds the writes at once. The others wait, and are decided anew.
	maxWrites = 32
)
