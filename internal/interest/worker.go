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
	wants  chan fleet.Interests // holds the last that it was not told yet

	// Board.mu guards these.
	inEffect uint64 // of what it was told on this stream; 0: nothing yet
	silent   bool   // it does not say what is in effect
	broken   bool   // it cannot be told anything now
}

// tell replaces what the worker is to be told. It needs Board.mu.
func (w *worker) tell(wants fleet.Interests) {
	select {
	case <-w.wants:
	default:
	}
	w.wants <- wants // only we write, and there is room
}

// answers reports whether clients wait for the worker. It needs Board.mu.
func (w *worker) answers() bool { return !w.silent && !w.broken }

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
		w := &worker{cancel: cancel, wants: make(chan fleet.Interests, 1)}
		b.workers[conn] = w
		children.Go(func() {
			defer cancel()
			b.listen(wctx, conn, w, node)
		})
	}
	b.releaseAll()
}

// listen listens to one worker, again and again, until ctx ends.
func (b *Board) listen(ctx context.Context, conn observe.Worker, w *worker, node fleet.NodeID) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		began := time.Now()
		err := b.listenOnce(ctx, conn, w)
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

// listenOnce listens until the stream breaks.
func (b *Board) listenOnce(ctx context.Context, conn observe.Worker, w *worker) error {
	b.mu.Lock()
	w.inEffect = 0
	w.tell(b.wants)
	b.mu.Unlock()
	silent := time.AfterFunc(patience, func() { b.giveUp(ctx, w) })
	err := conn.Listen(ctx, w.wants, func(h fleet.Hearing) { b.hear(w, h) })
	silent.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	w.broken = true
	b.releaseAll()
	return err
}

// giveUp stops waiting for a worker that does not say what is in effect.
func (b *Board) giveUp(ctx context.Context, w *worker) {
	var all []delivery
	b.mu.Lock()
	if w.inEffect == 0 && ctx.Err() == nil {
		w.silent = true
		b.releaseAll()
		var servers []fleet.ServerName
		for _, i := range b.wants.Servers {
			servers = append(servers, i.Server)
		}
		all = b.missed(servers)
	}
	b.mu.Unlock()
	deliver(all)
}

// hear takes what a worker tells.
func (b *Board) hear(w *worker, h fleet.Hearing) {
	var all []delivery
	b.mu.Lock()
	if h.InEffect > 0 {
		if w.inEffect == 0 {
			all = b.missed(h.Running)
		}
		w.inEffect, w.silent, w.broken = h.InEffect, false, false
		b.releaseAll()
	}
	all = append(all, b.add(h.News)...)
	b.mu.Unlock()
	deliver(all)
}
