package worker

import (
	"context"
	"fmt"
	"sync"
)

// stages are the running parts of a worker, each with an end of its own, so
// that they can be ended in another order than all at once.
type stages struct {
	base   context.Context // what its parts run under; it ends with none
	parts  map[string]*stage
	failed chan struct{} // closed when a part ended that was not told to
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

// add runs a part. It must be called from one goroutine, as end must.
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

// end ends a part, if there is one, and returns its error when it is over.
func (s *stages) end(name string) error {
	p := s.parts[name]
	if p == nil {
		return nil
	}
	p.cancel()
	<-p.done
	return p.err
}
