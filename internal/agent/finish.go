package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// stderrGrace is how long stderr may stay open after the process ended.
	stderrGrace = 250 * time.Millisecond
	// lastWordsGrace is how long stderr may stay open after stdout ended, before callers
	// are told why there is no replica.
	lastWordsGrace = 50 * time.Millisecond
	// exitTimeout bounds the wait for the end of a process that was sent KILL.
	// runtimeTimeout bounds the wait for its runtime to report how it ended, which
	// takes podman long on a busy machine.
	exitTimeout    = 3 * time.Second
	runtimeTimeout = 30 * time.Second
	// signalTimeout bounds the sending of a signal.
	signalTimeout = 10 * time.Second
	// Removing is tried several times, each with its own deadline. Remains would
	// stay until the node starts again.
	removeTries   = 3
	removeTimeout = 30 * time.Second
	removePause   = time.Second

	// How much of stderr a reason quotes, and a report of an end carries.
	reasonLines, reasonBytes = 5, 1 << 10
	reportLines, reportBytes = 50, 16 << 10
)

// finish ends the replica, whatever its state. It drains a replica that was stopped,
// ends the process step by step if it still runs, finds out how it ended, removes it,
// and reports the end. cause is why it did not become ready, nil if it did.
func (r *replica) finish(ctx context.Context, s *session, cause error) {
	if cause != nil && lost(cause) {
		wait(s.gone, 2*stdoutGrace) // it is ending by itself
	}
	if isGone(s) {
		// The runtime may take long to report how it ended.
		drain := func() {
			r.drain(strings.Join(append([]string{"its stdout ended"}, r.lastWords()...), "; "), true)
		}
		if cause == nil {
			drain()
		} else { // it never took calls, and its last words say why
			s.owned.Go(func() { wait(s.pumped, lastWordsGrace); drain() })
		}
	} else if reason, _ := r.stopReason(); reason == "" {
		r.drain(r.mask.Text(cause.Error()), true)
	}
	r.awaitCalls(s)
	s.unsubscribe() // not before, as calls may still change something
	exit, ladder := r.end(ctx, s)
	exit, phase, reason := r.judge(s, cause, exit, ladder)
	r.board.edit(r.order.ID, fleet.PhaseDraining, func(rep *fleet.Replica) bool {
		rep.Exit = &exit // report it now, since removing may take a while
		return true
	})
	if err := r.remove(ctx, s); err != nil {
		reason += "; " + r.mask.Text(err.Error())
	}
	r.report(ctx, phase, reason, &exit)
}

// end ends the process step by step, and returns how it ended and the step that ended it;
// see stopProcess.
func (r *replica) end(ctx context.Context, s *session) (exit fleet.Exit, ladder string) {
	ladder = r.stopProcess(ctx, s)
	exit = r.exit(ctx, s)
	s.hang()
	<-s.gone
	if !wait(s.pumped, stderrGrace) {
		_ = s.proc.Stderr().Close()
	}
	s.owned.Wait()
	_ = s.proc.Stderr().Close()
	return exit, ladder
}

// lost reports whether a request failed because the conversation ended.
func lost(err error) bool {
	return errors.Is(err, stdio.ErrLost) || errors.Is(err, stdio.ErrNotDelivered) || errors.Is(err, stdio.ErrClosed)
}

func isGone(s *session) bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// awaitCalls waits until running calls have finished, or until patience.
func (r *replica) awaitCalls(s *session) {
	for {
		_, by := r.stopReason()
		left := time.Until(by)
		if r.running.Load() == 0 || left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-s.gone:
		case <-r.idle:
		case <-r.hurry:
		case <-r.now:
			timer.Stop()
			return
		case <-timer.C:
		}
		timer.Stop()
		if isGone(s) {
			return
		}
	}
}

// stopProcess ends a process that still runs: it closes stdin, waits, sends TERM,
// waits, sends KILL, waits. It returns at the end of stdout, with the step that ended
// the process, or "" if that had ended by itself.
func (r *replica) stopProcess(ctx context.Context, s *session) (step string) {
	if isGone(s) {
		return ""
	}
	grace := r.grace()
	s.conn.CloseInput()
	if r.awaitGone(s, grace) {
		return "its stdin was closed"
	}
	r.signal(ctx, s, false)
	if r.awaitGone(s, grace) {
		return "TERM"
	}
	r.signal(ctx, s, true)
	if !wait(s.gone, max(grace, exitTimeout)) {
		r.log.Warn("stdout is still open after KILL")
	}
	return "KILL"
}

// awaitGone waits for the end of stdout, d at most, and reports whether it came. It does
// not wait when stops must not wait.
func (r *replica) awaitGone(s *session, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.gone:
		return true
	case <-r.now:
	case <-timer.C:
	}
	return isGone(s)
}

func (r *replica) grace() time.Duration {
	grace := cmp.Or(r.order.Template.StopGrace, fleet.DefaultStopGrace)
	if r.rushed.Load() {
		grace = min(grace, rushedGrace)
	}
	return grace
}

func (r *replica) signal(ctx context.Context, s *session, kill bool) {
	ctx, cancel := context.WithTimeout(ctx, signalTimeout)
	defer cancel()
	s.killed = s.killed || kill
	if err := s.proc.Signal(ctx, kill); err != nil {
		r.log.Warn("replica not signalled", "kill", kill, "err", err)
	}
}

// exit finds out how the process ended. A process that has closed its stdout but still
// runs is killed, because nobody can talk to it any more. exit asks the process itself
// whether it runs, since its runtime may just be slow.
func (r *replica) exit(ctx context.Context, s *session) fleet.Exit {
	ask := func(d time.Duration) fleet.Exit {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return s.proc.Exit(ctx)
	}
	exit := ask(max(r.grace(), time.Second))
	if exit.Err == "" {
		return exit
	}
	if !s.killed && !s.proc.Ended() {
		r.log.Warn("killing process: it still runs though its stdout ended", "err", exit.Err)
		r.signal(ctx, s, true)
	}
	if r.rushed.Load() {
		return ask(exitTimeout)
	}
	return ask(runtimeTimeout)
}

// endedByKill reports whether our KILL is what ended the process, which may
// have ended by itself just before.
func endedByKill(s *session, exit fleet.Exit) bool {
	return s.killed && (exit.Err != "" || exit.Signal == "SIGKILL")
}

// judge returns the phase of the end and the reason in words.
func (r *replica) judge(s *session, cause error, exit fleet.Exit, ladder string) (fleet.Exit, fleet.Phase, string) {
	stop, _ := r.stopReason()
	exit.Requested = stop != ""
	exit.Err = r.mask.Text(exit.Err)
	killed := endedByKill(s, exit)
	if killed { // by us
		exit.OOM = false
		exit.Err = cmp.Or(exit.Err, "killed by its worker")
	}
	if exit.Requested {
		switch {
		case killed:
			stop += "; it had to be killed"
		case ladder == "":
			stop += "; it ended before it was told to: " + exit.String()
		}
		return exit, fleet.PhaseStopped, stop
	}
	lines := r.stderr.last(reasonLines, reasonBytes, true)
	var parts []string
	add := func(part string) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	// The likeliest cause comes first. That is the output on stdout, unless the
	// process ended by itself and the lines match no known pattern.
	stdout, stdoutFirst := "", false
	if cause != nil {
		strays := r.strays.list()
		stdout = quoteStrays(strays, s.conn.Stats().Skipped)
		hint := stdoutHint(strays, lines, !s.introduced && ladder != "", r.order.Template.Image != "")
		stdoutFirst = hint != "" || ladder != ""
		add(hint)
		add(r.runtimeHint(s, exit, lines))
	} else if ladder == "" && s.conn.EndedByPing() {
		r.pingless.Store(r.revision(), true)
		add("it ended when it was sent ping; its next replicas here are asked for their tools instead")
	}
	if stdoutFirst {
		add(stdout)
	}
	switch {
	case killed && ladder == "":
		parts = append(parts, "closed its stdout and ran on: killed")
	case cause != nil && ladder == "":
		parts = append(parts, "ended before it was ready: "+exit.String())
	case cause != nil:
		parts = append(parts, r.mask.Text(cause.Error()))
	default:
		parts = append(parts, exit.String())
	}
	parts = append(parts, r.lastWords()...)
	if !stdoutFirst {
		add(stdout)
	}
	return exit, fleet.PhaseFailed, strings.Join(parts, "; ")
}

// lastWords returns the last lines of stderr for a reason, if there are any.
func (r *replica) lastWords() []string {
	lines := r.stderr.last(reasonLines, reasonBytes, true)
	if len(lines) == 0 {
		return nil
	}
	quote := strings.Join(lines, " | ")
	if len(quote) > reasonBytes {
		quote = strings.ToValidUTF8(quote[:reasonBytes], "") + "..."
	}
	return []string{"last stderr: " + quote}
}

// runtimeHint returns the runtime's hint against such an end, "" if it has none.
func (r *replica) runtimeHint(s *session, exit fleet.Exit, stderr []string) string {
	if h, ok := s.proc.(fleet.Hinter); ok {
		return h.Hint(exit, stderr)
	}
	return ""
}

// remove removes every trace of the process.
func (r *replica) remove(ctx context.Context, s *session) error {
	var err error
	for try := range removeTries {
		if try > 0 {
			wait(nil, removePause)
		}
		tryCtx, cancel := context.WithTimeout(ctx, removeTimeout)
		err = s.proc.Remove(tryCtx)
		cancel()
		if err == nil {
			return nil
		}
		r.log.Warn("replica not removed", "try", try+1, "err", err)
	}
	return fmt.Errorf("parts of it may remain: %w", err)
}
