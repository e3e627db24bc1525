package events

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses between attempts to follow the leader.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// Follow copies the leader's events until ctx ends, and then returns nil. It calls
// fetch again and again, with a pause that grows while no event comes. fetch finds
// the leader, calls on with each event after the given id, and returns when the
// stream ends. fetch logs its errors itself.
func (l *Log) Follow(ctx context.Context, fetch func(ctx context.Context, since string, on func(Event)) error) error {
	pause := firstPause
	for ctx.Err() == nil {
		before, began := l.Last(), time.Now()
		_ = fetch(ctx, before, l.Import)
		if l.Last() != before || time.Since(began) > maxPause {
			pause = firstPause // there was a leader
		}
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
		pause = min(2*pause, maxPause)
	}
	return nil
}
