package leader

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/desired"
)

const (
	catchUpRetry = 100 * time.Millisecond
	askTimeout   = 3 * time.Second
)

// Log is this controller's copy of desired state. Package store implements it.
type Log interface {
	State() *desired.State
	// Read returns a state that has all that was committed before the call. Only
	// the leader can.
	Read(ctx context.Context) (*desired.State, error)
	// Returns counts how often this controller came back after it had been
	// stopped or cut off.
	Returns() uint64
	// Subscribe posts a notice when State may have changed; see notice.Board.
	Subscribe() (look <-chan struct{}, cancel func())
}

// CatchUp knows whether this controller has applied all that was committed
// before it started, and before it last came back after it had been stopped or
// cut off. Until then users may have been promised more than it knows.
type CatchUp struct {
	log     Log
	finder  *Finder
	done    chan struct{} // closed once it has caught up for the first time
	returns atomic.Uint64 // Log.Returns when it last caught up
}

// NewCatchUp returns a CatchUp that has caught up with nothing. Its Run does the
// work.
func NewCatchUp(log Log, finder *Finder) *CatchUp {
	return &CatchUp{log: log, finder: finder, done: make(chan struct{})}
}

// Done is closed once all is applied that was committed before the start.
func (c *CatchUp) Done() <-chan struct{} { return c.done }

// Missing says what this controller may not know yet, in words. It returns ""
// once it has caught up.
func (c *CatchUp) Missing() string {
	select {
	case <-c.done:
	default:
		return "this controller does not know yet all that was written before it started"
	}
	if c.returns.Load() != c.log.Returns() {
		return "this controller was stopped or cut off, and does not know yet all that was written meanwhile"
	}
	return ""
}

// Run asks the leader how far desired state is, and waits until this controller
// is as far, after its start and after each return. It ends with ctx and returns
// nil.
func (c *CatchUp) Run(ctx context.Context) error {
	changed, cancel := c.log.Subscribe()
	defer cancel()
	retry := time.NewTicker(catchUpRetry)
	defer retry.Stop()
	target, asked, first := uint64(0), false, true
	returns := c.log.Returns()
	for {
		if now := c.log.Returns(); now != returns {
			returns, asked = now, false
		}
		if first || c.returns.Load() != returns {
			if !asked {
				index, err := c.committed(ctx)
				target, asked = index, err == nil
			}
			if asked && c.log.State().Index >= target {
				c.returns.Store(returns)
				if first {
					first = false
					close(c.done)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry.C:
		}
	}
}

// committed returns the index of desired state as the leader has it now.
func (c *CatchUp) committed(ctx context.Context) (index uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = c.finder.Do(ctx, func(ctx context.Context) error {
		st, err := c.log.Read(ctx)
		if err == nil {
			index = st.Index
		}
		return err
	}, func(ctx context.Context, client *api.Client) error {
		list, err := client.List(ctx, api.ReadOptions{})
		index = list.Index
		return err
	})
	return index, err
}
