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

// Context returns a context that the first INT or TERM cancels, and a function
// that releases it. A second signal kills the process.
//
// lifeline is the file descriptor of a pipe, or negative for none. With a
// lifeline, its end cancels the context too, and signals never kill: that is
// left to the parent process.
func Context(ctx context.Context, lifeline int) (context.Context, func()) {
	ctx, restore := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	if lifeline < 0 {
		context.AfterFunc(ctx, restore)
		return ctx, restore
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watch := watchLifeline(lifeline, cancel)
	return ctx, func() {
		cancel(nil)
		watch.close()
		restore()
	}
}

// FasterStop has the signals by which a program that is stopping is asked to stop
// faster.
type FasterStop struct {
	Hurry <-chan struct{} // closed to shorten all waits
	Now   <-chan struct{} // closed to end all waits; after Hurry
}

// copyWithin is how soon after a signal the same one counts as its copy.
const copyWithin = 50 * time.Millisecond

// Signals recognizes copies of a signal. timeout(1), for one, signals a process
// and then its whole process group, which must not count as a second request.
// The zero value is ready for use, by one goroutine at a time.
type Signals struct {
	last os.Signal
	at   time.Time
}

// Copy reports whether s, received now, is a copy of the signal before it.
func (k *Signals) Copy(s os.Signal, now time.Time) bool {
	copied := s == k.last && now.Sub(k.at) < copyWithin
	k.last, k.at = s, now
	return copied
}

// Stops is like Context, for a program that takes a while to stop. The first
// INT or TERM cancels the context. A second one closes Hurry. A third one kills
// the process or, with a lifeline, closes Now. The end of the lifeline cancels
// the context and closes Hurry.
func Stops(ctx context.Context, lifeline int) (_ context.Context, _ FasterStop, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	hurry, now := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released, ended := make(chan struct{}), make(chan error, 1)
	var watch *lifelineWatch
	if lifeline >= 0 {
		watch = watchLifeline(lifeline, func(err error) { ended <- err })
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
			close(hurry)
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
	return ctx, FasterStop{Hurry: hurry, Now: now}, sync.OnceFunc(func() {
		cancel(nil)
		close(released)
		owned.Wait()
		if watch != nil {
			watch.close()
		}
		signal.Stop(signals)
	})
}

// lifelineWatch waits for the end of a lifeline.
type lifelineWatch struct {
	pipe *os.File
	done sync.WaitGroup
}

// watchLifeline calls ended once, when the lifeline has ended or the watch is
// closed.
func watchLifeline(fd int, ended func(error)) *lifelineWatch {
	w := &lifelineWatch{pipe: openLifeline(fd)}
	w.done.Go(func() {
		_, err := io.Copy(io.Discard, w.pipe)
		ended(errors.Join(errors.New("the lifeline ended"), err))
	})
	return w
}

// openLifeline takes over the file descriptor. Without non-blocking mode a read would
// occupy a thread, and close would wait for it. The mode belongs to the open file, which
// the parent and its other children share: whenever the parent starts one of them, it is
// blocking again. So the pipe is opened anew, where the system can do that.
func openLifeline(fd int) *os.File {
	syscall.CloseOnExec(fd) // replicas must not inherit it
	pipe, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		_ = syscall.SetNonblock(fd, true)
		return os.NewFile(uintptr(fd), "lifeline")
	}
	_ = syscall.Close(fd)
	return pipe
}

func (w *lifelineWatch) close() {
	w.pipe.Close()
	w.done.Wait()
}
