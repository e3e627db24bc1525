package web

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

const (
	// writeGrace is how long requests get before HandOver is called. Writes take
	// milliseconds. Calls may take longer, and while a leader waited for them nobody
	// could write.
	writeGrace = 500 * time.Millisecond
	// lastWords is how long requests that were ended have to write their errors.
	lastWords = time.Second
	// handOverWithin bounds HandOver while the server still serves.
	handOverWithin = 2 * time.Second
)

// Shutdown says how a Server stops.
type Shutdown struct {
	Leaving  chan<- struct{} // closed at step 1
	Stopping chan<- struct{} // closed at step 2
	// EndRequests ends the context that NewServer got.
	EndRequests context.CancelCauseFunc
	// HandOver hands leadership to another controller. Its error says why there is
	// nobody to take it.
	HandOver func(ctx context.Context) error
	Delay    time.Duration // of step 2
	Drain    time.Duration // of step 3
	Log      *slog.Logger
}

// Stop stops the server in an order that fails no request:
//
//  1. /readyz says "stopping", and every answer closes its connection. All else is
//     served as before. A leader hands leadership over, and passes writes on.
//  2. After Delay, clients that ask /readyz have gone elsewhere. No new request is
//     accepted, and idle connections are closed.
//  3. Requests under way have Drain to end.
//  4. Those that are left end, and their clients are told that the controller stops.
//
// Stop returns when no request is left. The end of hurry skips the delay.
func (s *Server) Stop(ctx context.Context, hurry <-chan struct{}, how Shutdown) {
	s.leave(ctx, hurry, &how)
	close(how.Stopping)
	bounded, cancel := context.WithTimeout(ctx, how.Drain)
	defer cancel()
	quick, cancelQuick := context.WithTimeout(bounded, writeGrace)
	defer cancelQuick()
	if s.Shutdown(quick) != nil {
		how.handOver(bounded) // else it happens when the store is closed
	}
	if s.Shutdown(bounded) == nil {
		return
	}
	how.EndRequests(errors.New("the controller is stopping"))
	last, cancelLast := context.WithTimeout(ctx, lastWords)
	defer cancelLast()
	if s.Shutdown(last) != nil {
		s.Close()
	}
}

// leave serves on while clients learn that this controller stops.
func (s *Server) leave(ctx context.Context, hurry <-chan struct{}, how *Shutdown) {
	close(how.Leaving)
	if how.Delay <= 0 {
		return
	}
	over := time.NewTimer(how.Delay)
	defer over.Stop()
	how.Log.Info("stopping: no longer ready, serving on for a while", "delay", how.Delay)
	bounded, cancel := context.WithTimeout(ctx, handOverWithin)
	defer cancel()
	how.handOver(bounded)
	select {
	case <-over.C:
	case <-hurry:
	}
}

func (h *Shutdown) handOver(ctx context.Context) {
	if err := h.HandOver(ctx); err != nil {
		h.Log.Debug("leadership not handed over", "err", err)
	}
}
