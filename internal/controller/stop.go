package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/store"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// defaultDrain is how long requests may go on once the controller takes no new
// ones.
const defaultDrain = 5 * time.Second

// writeGrace is how long writes under way get before leadership is handed over.
// They take milliseconds; calls may take longer, and nobody could write while a
// leader waits for them.
const writeGrace = 500 * time.Millisecond

// lastWords is how long requests that were ended then have to say so.
const lastWords = time.Second

// handover bounds how long a stopping leader tries to have another one elected.
const handover = 2 * time.Second

// shutdown ends the HTTP front in an order that fails no request:
//
//  1. /readyz says "stopping", and every answer closes its connection, but all
//     is served as before. A leader hands leadership over, and passes writes on.
//  2. After delay, clients that ask /readyz have gone elsewhere: nothing new is
//     accepted, and idle connections are closed.
//  3. Requests under way have until drain to end.
//  4. Those that are left are told that the controller stops.
type shutdown struct {
	server       *web.Server
	store        *store.Store
	leaving      chan struct{} // closed at step 1
	stopping     chan struct{} // closed at step 2
	endRequests  context.CancelCauseFunc
	delay, drain time.Duration
	log          *slog.Logger
}

// run returns when no request is left. The end of hurry skips the delay.
func (s *shutdown) run(ctx context.Context, hurry <-chan struct{}) {
	s.leave(ctx, hurry)
	close(s.stopping)
	bounded, cancel := context.WithTimeout(ctx, s.drain)
	defer cancel()
	quick, cancelQuick := context.WithTimeout(bounded, writeGrace)
	defer cancelQuick()
	if s.server.Shutdown(quick) != nil {
		s.handOver(bounded) // else the store does it when it is closed
	}
	if s.server.Shutdown(bounded) == nil {
		return
	}
	s.endRequests(errors.New("the controller is stopping"))
	last, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if s.server.Shutdown(last) != nil {
		s.server.Close()
	}
}

// leave serves on while clients find out that this controller stops.
func (s *shutdown) leave(ctx context.Context, hurry <-chan struct{}) {
	close(s.leaving)
	if s.delay <= 0 {
		return
	}
	over := time.NewTimer(s.delay)
	defer over.Stop()
	s.log.Info("stopping: not ready any more, and serving on for a while", "delay", s.delay)
	bounded, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	s.handOver(bounded)
	select {
	case <-over.C:
	case <-hurry:
	}
}

func (s *shutdown) handOver(ctx context.Context) {
	if err := s.store.Transfer(ctx, ""); err != nil {
		s.log.Debug("leadership is not handed over", "reason", err)
	}
}
