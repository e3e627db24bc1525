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

// progress is how far the leader got with each of its peers.
type progress struct {
	mu    sync.Mutex
	peers map[raft.ServerID]*peerProgress
}

type peerProgress struct {
	term   uint64
	since  time.Time // of the first request in the term
	stored time.Time // when it last had all that was sent
	index  uint64    // of the last entry that it has
	cause  string    // why the last request failed; "" if it did not
	busy   bool      // a request is under way
	asked  bool      // it was asked to take over leadership, and has stored nothing since
}

// of returns what is known of a peer in a term; what is noted of an earlier one
// is lost. The lock is held.
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

// begin notes that a request with part of the log is under way until end.
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

// ask notes that a peer is asked to take over leadership. Raft sends it the rest
// of the log first. A second such order would wait until the request under way
// has ended, which it may never do, and raft takes no entries meanwhile (1.8:
// leadershipTransfer, triggerDeferErrorCh): ask refuses it.
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

// note notes how an attempt to send a part of the log ended.
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

// problem says what keeps a peer from storing the log of a term, whose last
// entry is given; "" if nothing does. The peer last answered at a time.
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

// failed says why a peer did not store what it was last sent in a term; "" if it
// did.
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

// PeerProblem says what keeps another controller from storing what this one,
// the leader, sends to it; "" if nothing does, or if this one does not lead.
func (s *Store) PeerProblem(id fleet.ControllerID) string {
	term, leads := s.leaderTerm()
	if !leads || id == s.ID() {
		return ""
	}
	return s.peerProblem(raft.ServerID(id), term)
}

func (s *Store) peerProblem(id raft.ServerID, term uint64) string {
	return s.net.progress.problem(id, term, s.raft.LastIndex(), s.net.acks.at(id), time.Now())
}

// peersProblem says why other voters do not store what this controller sends to
// them as the leader of a term, or did not at the term's end; "" if they do.
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

// replicates reports whether this controller leads in a term and sends its log
// to another one.
func (s *Store) replicates(id raft.ServerID, term uint64) bool {
	if now, leads := s.leaderTerm(); !leads || now != term {
		return false
	}
	return slices.ContainsFunc(s.raft.GetConfiguration().Configuration().Servers, func(m raft.Server) bool { return m.ID == id })
}
