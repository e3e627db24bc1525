package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// progress records how much of the log each peer has stored, while this controller
// leads.
type progress struct {
	mu    sync.Mutex
	peers map[raft.ServerID]*peerProgress
}

type peerProgress struct {
	term   uint64
	since  time.Time // of the first request in the term
	stored time.Time // when it last had everything that was sent
	index  uint64    // of the last entry that it has
	cause  string    // why the last request failed, or ""
	busy   bool      // a request is under way
	asked  bool      // it was asked to take over, and has stored nothing since
}

// of returns the record of a peer in a term. That of an earlier term is discarded.
// The lock is held.
func (p *progress) of(id raft.ServerID, term uint64, now time.Time) *peerProgress {
	if p.peers == nil {
		p.peers = make(map[raft.ServerID]*peerProgress)
	}
	one := p.peers[id]
	if one != nil && one.term > term {
		return new(peerProgress)
	}
	if one == nil || one.term < term {
		one = &peerProgress{term: term, since: now}
		p.peers[id] = one
	}
	return one
}

// begin records that a request with a part of the log is under way until end.
func (p *progress) begin(id raft.ServerID, term uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(id, term, now).busy = true
}

func (p *progress) end(id raft.ServerID, term uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(id, term, now).busy = false
}

// ask records that a peer is asked to take over leadership. Raft sends it the rest of
// the log first. ask refuses a second request before the peer has stored something:
// it would wait for the one under way, which may never end, and raft takes no
// entries meanwhile (raft 1.8: leadershipTransfer, triggerDeferErrorCh).
func (p *progress) ask(id raft.ServerID, term uint64, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.of(id, term, now)
	if one.busy && one.asked {
		return errors.New("it has stored nothing since it was last asked" + one.because())
	}
	one.asked = true
	return nil
}

// note records how an attempt to send a part of the log ended.
func (p *progress) note(id raft.ServerID, req *raft.AppendEntriesRequest, success bool, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.of(id, req.Term, now)
	switch {
	case err != nil:
		one.cause = err.Error()
	case !success:
		one.cause = "it refuses what it is sent"
	default:
		one.cause, one.stored, one.asked = "", now, false
		one.index = max(one.index, req.PrevLogEntry+uint64(len(req.Entries)))
	}
}

// problem says why a peer does not store the log of a term, or returns "" if it
// does. last is the last entry of the log, and answered when the peer last answered.
func (p *progress) problem(id raft.ServerID, term, last uint64, answered, now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.peers[id]
	if one == nil || one.term != term {
		return ""
	}
	from := one.since
	if answered.After(from) {
		from = answered
	}
	if silence := now.Sub(from); silence > silentAfter {
		return fmt.Sprintf("it has not answered for %s", silence.Round(time.Second)) + one.because()
	}
	from = one.since
	if one.stored.After(from) {
		from = one.stored
	}
	quiet := now.Sub(from)
	if quiet <= lagAfter {
		return ""
	}
	text := fmt.Sprintf("it has stored nothing for %s", quiet.Round(time.Second))
	if one.index > 0 && last > one.index {
		text += fmt.Sprintf(" and lacks %d entries", last-one.index)
	}
	return text + one.because()
}

// failed says why a peer did not store what it was last sent in a term, or returns ""
// if it did.
func (p *progress) failed(id raft.ServerID, term uint64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one := p.peers[id]; one != nil && one.term == term {
		return one.cause
	}
	return ""
}

func (p *peerProgress) because() string {
	if p.cause == "" {
		return ""
	}
	return ": " + p.cause
}

// PeerProblem says why another controller does not store what this one sends to it
// as the leader. It returns "" if the other one does, or if this one does not lead.
func (s *Store) PeerProblem(id fleet.ControllerID) string {
	term, leads := s.leaderTerm()
	if !leads || id == s.ID() {
		return ""
	}
	return s.peerProblem(raft.ServerID(id), term)
}

// ProblemOf says what keeps a controller from storing desired state, "" if
// nothing is known to. Each controller knows it of itself, the leader of all.
func (s *Store) ProblemOf(id fleet.ControllerID) string {
	if id == s.ID() {
		return s.Problem()
	}
	return s.PeerProblem(id)
}

func (s *Store) peerProblem(id raft.ServerID, term uint64) string {
	return s.net.progress.problem(id, term, s.raft.LastIndex(), s.net.acks.at(id), time.Now())
}

// peersProblem says why other voters do not store what this controller sends to them
// as the leader of a term, or did not when the term ended. It returns "" if they do.
func (s *Store) peersProblem(term uint64) string {
	var all []string
	for _, m := range s.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage != raft.Voter {
			continue
		}
		if p := cmp.Or(s.peerProblem(m.ID, term), s.net.progress.failed(m.ID, term)); p != "" {
			all = append(all, fmt.Sprintf("controller %s: %s", m.ID, p))
		}
	}
	return strings.Join(all, "; ")
}

// replicates reports whether this controller leads in a term and sends its log to
// another one.
func (s *Store) replicates(id raft.ServerID, term uint64) bool {
	if now, leads := s.leaderTerm(); !leads || now != term {
		return false
	}
	return slices.ContainsFunc(s.raft.GetConfiguration().Configuration().Servers, func(m raft.Server) bool { return m.ID == id })
}
