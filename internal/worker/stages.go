package worker

import (
	"context"
	"fmt"
	"sync"
)

// stages are the running parts of a worker. Each can be ended by itself, so that
// they can be ended in order.
type stages struct {
	base   context.Context // of the parts; it never ends
	parts  map[string]*stage
	failed chan struct{} // closed when a part has ended by itself
	once   sync.Once
}

type stage struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func newStages(ctx context.Context) *stages {
	return &stages{
		base:   context.WithoutCancel(ctx),
		parts:  map[string]*stage{},
		failed: make(chan struct{}),
	}
}

// add runs a part. add and end must be called from one goroutine.
func (s *stages) add(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(s.base)
	p := &stage{cancel: cancel, done: make(chan struct{})}
	s.parts[name] = p
	go func() {
		defer close(p.done)
		p.err = run(ctx)
		if ctx.Err() == nil {
			if p.err == nil {
				p.err = fmt.Errorf("%s ended by itself", name)
			}
			s.once.Do(func() { close(s.failed) })
		}
	}()
}

// end ends a part, waits for it, and returns its error. It does nothing if there is
// no such part.
func (s *stages) end(name string) error {
	p := s.parts[name]
	if p == nil {
		return nil
	}
	p.cancel()
	<-p.done
	return p.err
}
