package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// followPeriod is how often the list of replicas is read.
const followPeriod = 500 * time.Millisecond

// follower shows what the replicas of a server write to stderr, as long as the
// server exists. New replicas are included, and a controller that cannot be
// reached is asked again. If only is set, the follower shows one replica until
// that has ended.
type follower struct {
	*app
	client *api.Client
	server fleet.ServerName
	only   fleet.ReplicaID
	tail   int // number of old lines of replicas that exist at the start
	show   *lines

	polled   bool
	known    map[fleet.ReplicaID]*tailed
	reported string // the last reason reported for showing no lines
}

// tailed is a replica whose lines are shown.
type tailed struct {
	finished bool // nothing of it is left to show

	mu       sync.Mutex
	open     bool      // a stream of its lines is
	complete bool      // the last stream ended because the replica had
	last     time.Time // of the last line shown
	text     string    // that line
	failed   error     // of showing lines: nobody reads any more
}

// run follows until ctx ends, which is no error, or there is nothing left to
// follow.
func (f *follower) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel()
	tick := time.NewTicker(followPeriod)
	defer tick.Stop()
	for {
		done, err := f.poll(ctx, &streams)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (!f.polled || refused(err)):
			return err
		case err != nil:
			f.report("cannot reach a controller, still trying: " + err.Error())
		case done:
			return nil
		}
		for _, r := range f.known {
			if err := r.err(); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// refused reports whether a controller refused the request for good, so that
// repeating it is of no use.
func refused(err error) bool {
	answer, ok := errors.AsType[*api.Error](err)
	return ok && answer.Status < http.StatusInternalServerError
}

// poll opens a stream for each replica without one, and shows the remaining
// lines of replicas that have ended. done means that no more lines can come.
func (f *follower) poll(ctx context.Context, streams *sync.WaitGroup) (done bool, err error) {
	readCtx, cancel := withReadTimeout(ctx)
	defer cancel()
	replicas, err := f.client.Replicas(readCtx)
	if err != nil {
		return false, err
	}
	listed, err := f.client.List(readCtx, api.ReadOptions{Stale: true}) // there may be no leader for a while
	if err != nil {
		return false, err
	}
	servers := listed.Servers
	at := slices.IndexFunc(servers, func(s api.Server) bool { return s.Name == f.server })
	if at < 0 {
		// A controller that has just started may not know the server yet.
		_, err := f.client.GetServer(readCtx, f.server, api.ReadOptions{})
		if !isCode(err, api.CodeUnknownServer) {
			return false, err
		}
		f.report(string(f.server) + " was removed")
		return !f.streaming(), nil
	}
	first := !f.polled
	f.polled = true
	running := map[fleet.ReplicaID]bool{}
	for _, r := range replicas {
		if r.Server != f.server || f.only != "" && r.ID != f.only {
			continue
		}
		running[r.ID] = true
		t := f.known[r.ID]
		if t == nil {
			t = &tailed{}
			f.known[r.ID] = t
		}
		if t.startStream() {
			tail := 0
			if first {
				tail = f.tail
			}
			streams.Go(func() { f.stream(ctx, r.ID, t, tail) })
		}
	}
	f.showEnded(&servers[at], running, first)
	if f.only != "" {
		t := f.known[f.only]
		return t == nil || t.finished || t.ended() || !running[f.only] && !t.streaming(), nil
	}
	if len(running) == 0 && !f.streaming() {
		why := fmt.Sprintf("%s has no replica now, waiting for one: it is %s", f.server, servers[at].State)
		if servers[at].Reason != "" {
			why += ": " + progress.OneLine(servers[at].Reason)
		}
		f.report(why)
	} else {
		f.reported = ""
	}
	return false, nil
}

// showEnded shows the remaining lines of replicas that have ended since the last
// poll, and why they ended. On the first poll it shows the last replica that
// ended, if no replica runs.
func (f *follower) showEnded(s *api.Server, running map[fleet.ReplicaID]bool, first bool) {
	for i, e := range slices.Backward(s.LastEnded) { // the oldest first
		t := f.known[e.ID]
		switch {
		case f.only != "" && e.ID != f.only, t != nil && (t.finished || t.streaming()):
			continue
		case t == nil:
			t = &tailed{}
			f.known[e.ID] = t
			if first && (len(running) > 0 || i > 0) && f.only == "" {
				t.finished = true
				continue
			}
		}
		t.finished = true
		left := t.unshown(e.Log)
		if first && f.tail > 0 {
			left = left[max(0, len(left)-f.tail):]
		}
		for _, line := range left {
			if err := f.show.add(e.ID, line); err != nil {
				t.fail(err)
				return
			}
		}
		fmt.Fprintf(f.Err, "mcpfleet: %s is %s: %s\n", e.ID, e.Phase, progress.Printable(e.Reason))
	}
}

// report prints to stderr why there are no lines, once per reason.
func (f *follower) report(why string) {
	if kind, _, _ := strings.Cut(why, ": "); f.reported != kind {
		f.reported = kind
		fmt.Fprintln(f.Err, "mcpfleet: "+progress.Printable(why))
	}
}

func (f *follower) streaming() bool {
	for _, t := range f.known {
		if t.streaming() {
			return true
		}
	}
	return false
}

// stream shows a replica's lines until the replica or the connection ends. The
// controller sends old lines again, and those shown before are dropped.
func (f *follower) stream(ctx context.Context, id fleet.ReplicaID, t *tailed, tail int) {
	w := &stampedWriter{id: id, to: f.show, tailed: t, before: t.lastShown()}
	err := f.client.Logs(ctx, id, api.LogOptions{Tail: tail, Follow: true, Timestamps: true}, w)
	if err == nil {
		err = w.end()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.complete = false, err == nil
}

// startStream reports whether the caller must open a stream, and marks it as
// open.
func (t *tailed) startStream() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.finished || t.open || t.complete {
		return false
	}
	t.open = true
	return true
}

// lastShown returns the time of the last line shown.
func (t *tailed) lastShown() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

func (t *tailed) streaming() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// ended reports whether all lines have been shown.
func (t *tailed) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complete
}

func (t *tailed) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *tailed) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed = err
}

// unshown returns the lines in the log of an ended replica that have not been
// shown. The lines have no times, so those up to the last occurrence of the
// last line shown count as shown.
func (t *tailed) unshown(log []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.complete {
		return nil
	}
	for i, line := range slices.Backward(log) {
		if !t.last.IsZero() && line == t.text {
			return log[i+1:]
		}
	}
	return log
}

// stampedWriter splits a log into lines that begin with their times, and shows
// those that are newer than the lines of earlier streams. The log of an ended
// replica has no times.
type stampedWriter struct {
	id     fleet.ReplicaID
	to     *lines
	before time.Time // of the last line that earlier streams have shown
	buf    []byte
	kept   []string // lines without a time
	*tailed
}

func (w *stampedWriter) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for {
		line, rest, found := bytes.Cut(w.buf, []byte{'\n'})
		if !found {
			return len(b), nil
		}
		if err := w.line(string(line)); err != nil {
			return 0, err
		}
		w.buf = rest
	}
}

// end shows the lines that had to wait for the end of the stream.
func (w *stampedWriter) end() error {
	if len(w.buf) > 0 {
		if err := w.line(string(w.buf)); err != nil {
			return err
		}
	}
	for _, text := range w.unshown(w.kept) {
		if err := w.to.add(w.id, text); err != nil {
			w.fail(err)
			return err
		}
	}
	return nil
}

func (w *stampedWriter) line(stamped string) error {
	stamp, text, _ := strings.Cut(stamped, " ")
	if stamp == "-" {
		w.kept = append(w.kept, text)
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil { // a controller of an older version
		text = stamped
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && !at.After(w.before) {
		return nil
	}
	w.last, w.text = at, text
	w.failed = w.to.add(w.id, text)
	return w.failed
}
