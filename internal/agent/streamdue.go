package agent

import (
	"time"
)

// due returns when a call without its caller is to be cancelled, and whether that is
// because its deadline passes. It is zero if there is no such time. While the call waits for
// its client, only limit bounds it. It needs the lock.
func (st *stream) due() (at time.Time, timeout bool) {
	sooner := func(t time.Time, isTimeout bool) {
		if at.IsZero() || t.Before(at) {
			at, timeout = t, isTimeout
		}
	}
	if st.caller != nil || st.done || st.ofSession {
		return at, false
	}
	if st.reader == nil {
		sooner(st.unread.Add(st.window), false)
	}
	if st.timeout > 0 && st.waiting == 0 {
		sooner(st.progress.Add(st.timeout), true)
	}
	if st.limit > 0 {
		sooner(st.began.Add(st.limit), true)
	}
	return at, timeout
}

// arm sets the alarm of a call without its caller. It needs the lock.
func (st *stream) arm() {
	at, _ := st.due()
	switch {
	case at.IsZero() && st.alarm != nil:
		st.alarm.Stop()
	case at.IsZero():
	case st.alarm == nil:
		st.alarm = time.AfterFunc(time.Until(at), st.rings)
	default:
		st.alarm.Reset(time.Until(at))
	}
}

// rings cancels the call if it is due, and else sets the alarm again: progress has moved
// the deadline.
func (st *stream) rings() {
	st.mu.Lock()
	at, timeout := st.due()
	if at.IsZero() {
		st.mu.Unlock()
		return
	}
	if time.Now().Before(at) {
		st.arm()
		st.mu.Unlock()
		return
	}
	st.expired = !timeout
	st.mu.Unlock()
	reason := "the call timed out"
	if !timeout {
		reason = "its client did not come back"
	}
	st.cancelCall(timeout, reason)
}
