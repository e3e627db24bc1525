package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// removal is one attempt to remove a container.
type removal struct {
	done chan struct{} // closed when err is set
	err  error
}

// Remove implements fleet.Process. If ctx ends early, the removal goes on in the
// background, because an interrupted podman rm leaves half a container.
func (c *container) Remove(ctx context.Context) error {
	c.killed.Store(true)
	c.requested.Store(true)
	c.mu.Lock()
	rm := c.removal
	if rm == nil || rm.failed() {
		rm = &removal{done: make(chan struct{})}
		c.removal = rm
		c.r.background.Go(func() {
			defer close(rm.done)
			rm.err = c.r.remove(c.rec, c.broken)
			if c.client != nil && rm.err == nil {
				<-c.client // the relaying client ends with its container
			}
		})
	}
	c.mu.Unlock()
	select {
	case <-rm.done:
		return rm.err
	case <-ctx.Done():
		return fmt.Errorf("remove container %s: %w", c.rec.name, context.Cause(ctx))
	}
}

func (rm *removal) failed() bool {
	select {
	case <-rm.done:
		return rm.err != nil
	default:
		return false
	}
}

// remove removes the container and checks that nothing of it is left. broken
// means that podman was killed during its start, so that nothing of it will go by
// itself.
func (r *Runtime) remove(rec record, broken bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	for range 3 {
		err = r.podmanRemove(ctx, rec.name)
		if r.mode.remote {
			if err == nil {
				break
			}
			continue
		}
		t := r.traces(rec)
		if t.none() && err == nil {
			break
		}
		// Processes that clean up after the container may still be at work.
		if err == nil && !broken && t.settled(ctx) {
			break
		}
		if serr := r.scrub(ctx, rec); serr != nil {
			err = serr
			continue
		}
		// If podman failed, it may succeed now that the container is dead.
		if err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("remove container %s: %w", rec.name, err)
	}
	if broken && !r.mode.remote {
		if fi, err := os.Stat(rec.dir); err == nil {
			if err := r.dropNetworks(ctx, fi.ModTime()); err != nil {
				r.log.Warn("network namespace of a killed podman not removed", "container", rec.name, "err", err)
			}
		}
	}
	if err := os.RemoveAll(rec.dir); err != nil {
		return fmt.Errorf("remove record of container %s: %w", rec.name, err)
	}
	return nil
}

// podmanRemove removes what podman's database knows: the container, its
// anonymous volumes, and storage that has lost its container.
func (r *Runtime) podmanRemove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("podman rm took too long"))
	defer cancel()
	_, err := r.query(ctx, "rm", "--force", "--time=0", "--volumes", "--ignore", name)
	if isGone(err) {
		return nil
	}
	return err
}

// settled waits for the traces to go by themselves: 100 ms after the last
// process, 1 s at most. It reports whether they have.
func (t *traces) settled(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for idle := 0; idle < 5; idle++ {
		if t = t.again(); t.none() {
			return true
		}
		if len(t.processes) > 0 {
			idle = 0
		}
		if proctab.Sleep(ctx, 20*time.Millisecond) != nil {
			return false
		}
	}
	return false
}
