package interest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/observe"
)

// The pause after a stream of news has broken grows from the first to the second.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// worker is one connection to a worker, and the goroutine that listens to it.
type worker struct {
	cancel context.CancelFunc
	wants  chan []fleet.Interest // holds the last that it was not told yet
}

// tell replaces what the worker is to be told. It needs Board.mu.
func (w *worker) tell(wants []fleet.Interest) {
	select {
	case <-w.wants:
	default:
	}
	w.wants <- wants // only we write, and there is room
}

// follow begins to listen to new connections, and ends with those that are gone.
func (b *Board) follow(ctx context.Context, children *sync.WaitGroup) {
	connected := map[observe.Worker]fleet.NodeID{}
	for name, n := range b.view.Snapshot().Nodes {
		if n.Worker != nil {
			connected[n.Worker] = name
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for conn, w := range b.workers {
		if _, is := connected[conn]; !is {
			w.cancel()
			delete(b.workers, conn)
		}
	}
	for conn, node := range connected {
		if b.workers[conn] != nil {
			continue
		}
		wctx, cancel := context.WithCancel(ctx)
		w := &worker{cancel: cancel, wants: make(chan []fleet.Interest, 1)}
		b.workers[conn] = w
		children.Go(func() {
			defer cancel()
			b.listen(wctx, conn, w, node)
		})
	}
}

// listen listens to one worker, again and again, until ctx ends.
func (b *Board) listen(ctx context.Context, conn observe.Worker, w *worker, node fleet.NodeID) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		b.mu.Lock()
		w.tell(b.wants)
		b.mu.Unlock()
		began := time.Now()
		err := conn.Listen(ctx, w.wants, b.hear)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, fleet.ErrOldWorker):
			b.log.Info("worker sends no notifications of its servers: update it", "node", node)
			return
		}
		b.log.Debug("notifications of a worker interrupted", "node", node, "err", err)
		if time.Since(began) > maxPause {
			pause = firstPause
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
