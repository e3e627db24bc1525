package store

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var errClosed = errors.New("store is closed")

// pulse wakes everyone who waits for a change. Get the channel, check the condition,
// and if it does not hold wait for the channel to close.
type pulse struct {
	mu   sync.Mutex
	next chan struct{}
}

func (p *pulse) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = make(chan struct{})
	}
	return p.next
}

func (p *pulse) post() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != nil {
		close(p.next)
		p.next = nil
	}
}

// failure is why the store cannot continue. It is set once.
type failure struct {
	once   sync.Once
	err    error // set before broken is closed
	broken chan struct{}
}

func (f *failure) init() {
	f.broken = make(chan struct{})
}

func (f *failure) fail(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.broken)
	})
}

// flight counts the operations that wait for raft.
type flight struct {
	mu      sync.Mutex
	closing bool
	n       int
	shut    chan struct{} // closed when Close began
	idle    chan struct{} // one value: check again whether anything is in flight
}

func (f *flight) init() {
	f.shut, f.idle = make(chan struct{}), make(chan struct{}, 1)
}

// enter begins an operation. It fails once Close has begun.
func (f *flight) enter() (leave func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return nil, fmt.Errorf("%w: %w", errClosed, fleet.ErrNotLeader)
	}
	return f.add(), nil
}

// reenter is enter for operations of Close itself.
func (f *flight) reenter() (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add()
}

// add counts one more operation. Callers hold mu.
func (f *flight) add() (leave func()) {
	f.n++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.n--; f.n == 0 {
			select {
			case f.idle <- struct{}{}: // for drain, if it waits
			default:
			}
		}
	}
}

func (f *flight) beginClosing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closing {
		return false
	}
	f.closing = true
	close(f.shut)
	return true
}

// drain waits until nothing is in flight, within a time limit.
func (f *flight) drain(atMost time.Duration) {
	timeout := time.NewTimer(atMost)
	defer timeout.Stop()
	for f.busy() {
		select {
		case <-f.idle:
		case <-timeout.C:
			return
		}
	}
}

func (f *flight) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n > 0
}
