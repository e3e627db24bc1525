package rpc

import "runtime"

// directBytes is how much may be on its way, counted up to the last answer,
// for a caller to send its call itself instead of through the queue. gRPC's
// Send blocks only when 64 KiB of a stream have not been written yet, so such
// a send does not block; and it saves a goroutine's wake-up.
const directBytes = 32 << 10

// crowd is how many calls at once are enough for a caller to wait for the others
// that are about to send. With fewer, waiting gains no company.
const crowd = 3

type queuedCommand struct {
	id  uint64 // of the call; 0 for a cancel
	buf parts
}

// submit sends a call, or queues it. It does not block, and reports false when
// the stream takes no more calls. If crowd is set, other callers are about to
// submit calls too: these get a moment to join the message.
func (s *callStream) submit(p *pending, crowd bool) bool {
	s.mu.Lock()
	if s.broken.Load() || s.ended {
		s.mu.Unlock()
		return false
	}
	s.calls[p.id] = p
	p.state = queued
	s.queue = append(s.queue, queuedCommand{p.id, p.buf})
	sending := s.sending
	if sending || s.cs == nil || len(s.queue) > 1 || s.sent-s.acked+uint64(p.buf.size()) > directBytes {
		s.mu.Unlock()
		if !sending { // else sentAll looks
			s.notify()
		}
		return true
	}
	s.sending = true
	if crowd {
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	var few [8]uint64
	ids := few[:0]
	msg := s.take(directBytes-int(s.sent-s.acked), &ids)
	s.mu.Unlock()
	s.sentAll(s.cs.SendMsg(msg), ids...)
	return true
}

// send sends the next message, made of what waits in the queue. It reports false
// when there is nothing to send, or somebody else sends.
func (s *callStream) send(limit int, ids *[]uint64) bool {
	s.mu.Lock()
	if s.sending || s.ended || len(s.queue) == 0 {
		s.mu.Unlock()
		return false
	}
	s.sending = true
	msg := s.take(limit, ids)
	s.mu.Unlock()
	s.sentAll(s.cs.SendMsg(msg), *ids...)
	return true
}

// take removes from the queue what goes into the next message, and adds the ids
// of its calls to ids. The caller sends: s.mu is held, and s.sending is set.
func (s *callStream) take(limit int, ids *[]uint64) (msg parts) {
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+s.queue[n].buf.size() <= limit) {
		q := s.queue[n]
		n++
		size += q.buf.size()
		msg = append(msg, q.buf...)
		if p := s.calls[q.id]; p != nil {
			s.handed++
			p.state, p.buf, p.mark, p.nth = handed, nil, s.sent+uint64(size), s.handed
			*ids = append(*ids, q.id)
		}
	}
	left := copy(s.queue, s.queue[n:])
	clear(s.queue[left:])
	s.queue = s.queue[:left]
	s.sent += uint64(size)
	return msg
}

// sentAll is called after every SendMsg. An error means that gRPC took none of
// it.
func (s *callStream) sentAll(err error, ids ...uint64) {
	s.mu.Lock()
	s.sending = false
	if err != nil {
		s.broken.Store(true) // the receiver learns why, and ends the stream
		for _, id := range ids {
			if p := s.calls[id]; p != nil && p.state == handed {
				p.state = queued
			}
		}
	}
	if s.ended {
		s.finish()
		return
	}
	more := len(s.queue) > 0
	s.mu.Unlock()
	if err == nil && more {
		s.notify()
	}
}

// unqueue removes a call's command. s.mu is held.
func (s *callStream) unqueue(id uint64) {
	for i, q := range s.queue {
		if q.id == id {
			q.buf.free()
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			return
		}
	}
}
