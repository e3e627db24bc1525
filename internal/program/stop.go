package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Context makes a context that the first INT or TERM ends. A second one kills,
// unless there is a lifeline (a file descriptor, not negative): then its end
// ends the context too, and whoever holds it decides.
func Context(ctx context.Context, lifeline int) (context.Context, func()) {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	if lifeline < 0 {
		context.AfterFunc(ctx, restore)
		return ctx, restore
	}
	ctx, cancel := context.WithCancelCause(ctx)
	held := hold(lifeline, cancel)
	return ctx, func() {
		cancel(nil)
		held.release()
		restore()
	}
}

// Haste is how a program that stops is told to be quicker.
type Haste struct {
	Hurry <-chan struct{} // closed when it shall wait for little
	Now   <-chan struct{} // closed when it shall wait for nothing; after Hurry
}

// copyWithin is how soon after a signal the same one counts as its copy.
const copyWithin = 50 * time.Millisecond

// Signals tells signals from their copies: timeout(1), among others, sends a
// signal to a process and then to its whole group, which is not somebody who
// asks twice. The zero value is ready for use, by one goroutine at a time.
type Signals struct {
	last os.Signal
	at   time.Time
}

// Copy reports whether a signal that came now is a copy of the one before.
func (k *Signals) Copy(s os.Signal, now time.Time) bool {
	copied := s == k.last && now.Sub(k.at) < copyWithin
	k.last, k.at = s, now
	return copied
}

// Stops is Context for a program that takes its time to stop: the first INT or
// TERM ends the context, and a second one, or the end of the lifeline, closes
// Hurry too. A further one kills, or closes Now if there is a lifeline.
func Stops(ctx context.Context, lifeline int) (_ context.Context, _ Haste, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	rush, now := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released, ended := make(chan struct{}), make(chan error, 1)
	var held *holder
	if lifeline >= 0 {
		held = hold(lifeline, func(err error) { ended <- err })
	}
	var owned sync.WaitGroup
	owned.Go(func() {
		var known Signals
		for first := true; ; {
			select {
			case s := <-signals:
				if known.Copy(s, time.Now()) {
					continue
				}
				if first {
					cancel(fmt.Errorf("signal: %s", s))
					first = false
					continue
				}
			case err := <-ended:
				cancel(err)
			case <-released:
				return
			}
			if lifeline < 0 {
				signal.Stop(signals)
			}
			close(rush)
			break
		}
		if lifeline < 0 {
			return
		}
		for {
			select {
			case s := <-signals:
				if known.Copy(s, time.Now()) {
					continue
				}
				close(now)
			case <-released:
			}
			return
		}
	})
	return ctx, Haste{Hurry: rush, Now: now}, sync.OnceFunc(func() {
		cancel(nil)
		close(released)
		owned.Wait()
		if held != nil {
			held.release()
		}
		signal.Stop(signals)
	})
}

// holder waits for the end of a lifeline.
type holder struct {
	pipe *os.File
	done sync.WaitGroup
}

// hold calls ended once: when the lifeline has ended, or is released.
func hold(fd int, ended func(error)) *holder {
	// Made non-blocking, or the read would keep a thread and outlive close.
	_ = syscall.SetNonblock(fd, true)
	syscall.CloseOnExec(fd) // replicas are no part of it
	h := &holder{pipe: os.NewFile(uintptr(fd), "lifeline")}
	h.done.Go(func() {
		_, err := io.Copy(io.Discard, h.pipe)
		ended(errors.Join(errors.New("the lifeline ended"), err))
	})
	return h
}

func (h *holder) release() {
	h.pipe.Close()
	h.done.Wait()
}
