package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Read returns desired state with every write that was acknowledged before Read
// was called. On any controller but the leader the error wraps fleet.ErrNotLeader.
//
// It is the read index of raft's thesis, in four steps:
//  1. An entry of this term must be committed. The tenure's first entry is applied
//     here, so the commit index covers all that earlier leaders acknowledged.
//  2. Take the commit index.
//  3. Have a majority confirm that they still follow.
//  4. Wait until that index is applied.
//
// Raft's VerifyLeader alone is not enough for the third step. It counts
// non-voters, and answers to requests that were sent before the index was taken:
// on a slow network those can be older than the next leader's first write. It only
// makes raft send heartbeats at once, and acks decides whose answer counts.
//
// Raft's AppliedIndex is not used either: it is set before the entry is applied.
// Commands and changes of the members advance the state's Applied, and no other
// kind of entry follows a tenure's first.
func (s *Store) Read(ctx context.Context) (*desired.State, error) {
	term, ok := s.tenure()
	if !ok {
		return nil, s.notLeader()
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	commit := s.raft.CommitIndex()
	asked := time.Now()
	select {
	case s.verify <- struct{}{}:
	default: // one that has not begun yet will do
	}
	for {
		moved := s.pulse.wait()
		if now, ok := s.tenure(); !ok || now != term {
			return nil, fmt.Errorf("%w: leadership was lost during the read", fleet.ErrNotLeader)
		}
		if st := s.State(); st.Applied >= commit && s.confirmed(term, asked) {
			return st, nil
		}
		select {
		case <-moved:
		case <-s.broken:
			return nil, fmt.Errorf("%w: %w", fleet.ErrNotLeader, s.err)
		case <-s.shut:
			return nil, fmt.Errorf("%w: %w", fleet.ErrNotLeader, errClosed)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: leadership could not be confirmed: %w", fleet.ErrNotLeader, context.Cause(ctx))
		}
	}
}

// confirmed reports whether a majority of the voters has answered, in this term, a
// request that was sent after the given time. If so, no later leader was elected
// before that time.
func (s *Store) confirmed(term uint64, after time.Time) bool {
	return s.majority(func(id raft.ServerID) bool { return s.net.acks.since(id, term, after) })
}

// ledSince reports whether this controller has led after the given time: a majority
// of the voters has answered a request that it sent as the leader after that time.
func (s *Store) ledSince(after time.Time) bool {
	return s.majority(func(id raft.ServerID) bool { return s.net.acks.at(id).After(after) })
}

// majority reports whether a majority of the voters has answered. This controller
// counts if it has a vote.
func (s *Store) majority(answered func(raft.ServerID) bool) bool {
	voters, yes := 0, 0
	for _, m := range s.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage != raft.Voter {
			continue
		}
		voters++
		if fleet.ControllerID(m.ID) == s.ID() || answered(m.ID) {
			yes++
		}
	}
	return yes > voters/2
}

// leaderTerm returns the term in which this controller leads.
func (s *Store) leaderTerm() (term uint64, ok bool) {
	// If the term is the same before and after, the role belongs to it.
	before := s.raft.CurrentTerm()
	leads := s.raft.State() == raft.Leader && before > s.net.gaveUp.Load()
	return before, leads && s.raft.CurrentTerm() == before
}

// verifyLeader makes raft send heartbeats when a read asks for it. It has its own
// goroutine because VerifyLeader blocks while raft's main loop waits for the disk.
func (s *Store) verifyLeader() {
	for {
		select {
		case <-s.verify:
			s.raft.VerifyLeader()
		case <-s.stop:
			return
		}
	}
}

// tenure returns the term of the tenure whose first entry is applied here.
func (s *Store) tenure() (term uint64, ok bool) {
	term, ok = s.leaderTerm()
	lead := s.State().Lead
	select {
	case <-s.broken:
		return 0, false
	default:
	}
	return term, ok && lead.Controller == s.ID() && uint64(lead.Term) == term
}

// acks remembers when the last request was sent that each peer answered with
// success.
type acks struct {
	mu   sync.Mutex
	last map[raft.ServerID]ack
}

type ack struct {
	term uint64
	sent time.Time
}

func (a *acks) add(id raft.ServerID, term uint64, sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.last[id]; term > old.term || term == old.term && sent.After(old.sent) {
		if a.last == nil {
			a.last = make(map[raft.ServerID]ack)
		}
		a.last[id] = ack{term, sent}
	}
}

func (a *acks) since(id raft.ServerID, term uint64, after time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := a.last[id]
	return last.term == term && !last.sent.Before(after)
}

func (a *acks) at(id raft.ServerID) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last[id].sent
}
