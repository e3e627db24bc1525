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
	done chan struct{} // closed when err is final
	err  error
}

// Remove implements fleet.Process. The work goes on in the background when
// ctx ends early: an interrupted podman rm would leave the worst of both.
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

// remove removes the container and makes sure of it. broken says that its
// start was cut off, so that nothing of it will go by itself.
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
		// What the end of a container sets off may still be on its way out.
		if err == nil && !broken && t.settled(ctx) {
			break
		}
		if serr := r.scrub(ctx, rec); serr != nil {
			err = serr
			continue
		}
		// Podman, if it failed, may now see that the container is dead.
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
				r.log.Warn("a killed podman left a network namespace", "container", rec.name, "err", err)
			}
		}
	}
	if err := os.RemoveAll(rec.dir); err != nil {
		return fmt.Errorf("remove record of container %s: %w", rec.name, err)
	}
	return nil
}

// podmanRemove removes what podman's database knows: container, anonymous
// volumes, and storage of which there is no container any more.
func (r *Runtime) podmanRemove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("podman rm takes too long"))
	defer cancel()
	_, err := r.query(ctx, "rm", "--force", "--time=0", "--volumes", "--ignore", name)
	if isGone(err) {
		return nil
	}
	return err
}

// settled waits a moment for the traces to go by themselves, as long as there
// are processes at work.
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
