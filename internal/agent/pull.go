package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// PullImage begins to pull an image that the node may need soon, so that a start does
// not wait for it. It does nothing on a node that runs no images, or while the
// image is being pulled on such an order. Nobody waits for the outcome: it is logged,
// and a start that needs the image tries again. It fails with fleet.ErrForeignCluster,
// fleet.ErrStaleEpoch or fleet.ErrDraining.
func (a *Agent) PullImage(ctx context.Context, o fleet.Order, image string, policy fleet.PullPolicy) error {
	if image == "" {
		return errors.New("pull image: no image")
	}
	if err := a.awaitOrders(ctx); err != nil {
		return fmt.Errorf("pull image %s: %w", image, err)
	}
	if err := a.orders.admit(o); err != nil {
		return fmt.Errorf("pull image %s: %w", image, err)
	}
	t := &fleet.Template{Image: image, PullPolicy: policy}
	if policy == fleet.PullNever || !fleet.CanRun(a.cfg.Node.Runtimes, t) {
		return nil
	}
	a.mu.Lock()
	known := a.pulling[image]
	if !known {
		a.pulling[image] = true
		a.images = append(a.images, t)
	}
	a.mu.Unlock()
	if !known {
		notify(a.ordered)
	}
	return nil
}

// pullsAhead bounds how many images are pulled ahead of need at once. It is less than
// the runtime allows, so that a start which needs an image does not wait for those that
// nothing needs yet.
const pullsAhead = 2

// pull begins the pulls that were ordered, in their order. They end with ctx.
func (a *Agent) pull(ctx context.Context, pulls *sync.WaitGroup) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := min(len(a.images), pullsAhead-a.pullers); n > 0; n-- {
		a.pullers++
		pulls.Go(func() {
			for t := a.nextImage(ctx); t != nil; t = a.nextImage(ctx) {
				a.pullImage(ctx, t)
				a.mu.Lock()
				delete(a.pulling, t.Image)
				a.mu.Unlock()
			}
		})
	}
}

// nextImage returns the next image to be pulled. It returns nil, and counts the caller
// as ended, if there is none or ctx has ended.
func (a *Agent) nextImage(ctx context.Context) *fleet.Template {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.images) == 0 || ctx.Err() != nil {
		a.pullers--
		return nil
	}
	t := a.images[0]
	a.images = slices.Delete(a.images, 0, 1)
	return t
}

func (a *Agent) pullImage(ctx context.Context, t *fleet.Template) {
	ctx, cancel := context.WithTimeoutCause(ctx, pullTimeout, errPulling)
	defer cancel()
	err := a.cfg.Runtime.Prepare(ctx, fleet.Launch{
		Cluster: a.orders.cluster(), Node: a.cfg.Node.Node, Template: t, Pulling: func(string) {},
	})
	switch {
	case err == nil:
		a.log.Info("image is here", "image", t.Image)
	case ctx.Err() == nil:
		a.log.Warn("image not pulled ahead of need", "image", t.Image, "err", err)
	}
}
