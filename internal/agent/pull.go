package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// PullImage begins to pull an image that the node may need soon, so that a start does
// not wait for it. It does nothing on a node that runs no images, and none while the
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

// pull begins the pulls that were ordered. They end with ctx.
func (a *Agent) pull(ctx context.Context, pulls *sync.WaitGroup) {
	a.mu.Lock()
	images := a.images
	a.images = nil
	a.mu.Unlock()
	for _, t := range images {
		pulls.Go(func() {
			a.pullImage(ctx, t)
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.pulling, t.Image)
		})
	}
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
