package stdio

import "sync/atomic"

type counters struct {
	calls, replies, skipped, unknownIDs, lateReplies, droppedAnswers, bytesOut atomic.Int64
}

// Stats counts what has happened in a conversation so far, and what is under way.
type Stats struct {
	Calls          int64 // accepted by Start
	Replies        int64 // replies that ended a call, the malformed and the too large included
	Skipped        int64 // lines that were no JSON-RPC
	UnknownIDs     int64 // replies to no request
	LateReplies    int64 // replies to calls that had been given up
	DroppedAnswers int64 // answers to the server's requests, not sent because it did not read
	BytesIn        int64
	BytesOut       int64

	Outstanding int // calls without a reply, including cancelled ones that are not released
	Waiting     int // bytes queued for the server's stdin
}

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	s := Stats{
		Calls:          c.counts.calls.Load(),
		Replies:        c.counts.replies.Load(),
		Skipped:        c.counts.skipped.Load(),
		UnknownIDs:     c.counts.unknownIDs.Load(),
		LateReplies:    c.counts.lateReplies.Load(),
		DroppedAnswers: c.counts.droppedAnswers.Load(),
		BytesIn:        c.lines.bytes.Load(),
		BytesOut:       c.counts.bytesOut.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Outstanding, s.Waiting = len(c.pending), c.waiting
	return s
}
