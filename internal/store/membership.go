package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Voter is a controller in raft's configuration.
type Voter = fleet.Voter

// voting returns a configuration in which all have a vote. The addresses are
// placeholders: the transport gets the real ones from Config.Resolve.
func voting(ids ...fleet.ControllerID) raft.Configuration {
	var c raft.Configuration
	for _, id := range ids {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
	}
	return c
}

// Members returns raft's configuration as this controller knows it.
func (s *Store) Members() ([]Voter, error) {
	future := s.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, fmt.Errorf("read raft's configuration: %w", err)
	}
	return members(future.Configuration()), nil
}

func members(c raft.Configuration) []Voter {
	out := make([]Voter, 0, len(c.Servers))
	for _, m := range c.Servers {
		out = append(out, Voter{ID: fleet.ControllerID(m.ID), Voting: m.Suffrage == raft.Voter})
	}
	return out
}

// AddNonvoter adds a controller that receives the log and has no vote. It does
// nothing to a voter. Errors are those of Propose.
func (s *Store) AddNonvoter(id fleet.ControllerID) error {
	return s.change("add", id, func() raft.IndexFuture {
		return s.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), 0, enqueueTimeout)
	})
}

// AddVoter gives a controller a vote.
func (s *Store) AddVoter(id fleet.ControllerID) error {
	return s.change("give a vote to", id, func() raft.IndexFuture {
		return s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), 0, enqueueTimeout)
	})
}

// Remove removes a controller. If it is this one, another becomes the leader.
func (s *Store) Remove(id fleet.ControllerID) error {
	return s.change("remove", id, func() raft.IndexFuture {
		return s.raft.RemoveServer(raft.ServerID(id), 0, enqueueTimeout)
	})
}

// change waits until the change is committed or leadership is lost, at most as long
// as for any write.
func (s *Store) change(verb string, id fleet.ControllerID, do func() raft.IndexFuture) error {
	term, ok := s.tenure()
	if !ok {
		return s.notLeader()
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { // raft cannot cancel an operation
		defer leave()
		done <- do().Error()
	}()
	if err = s.await(context.Background(), term, done); err != nil {
		return fmt.Errorf("%s controller %s: %w", verb, id, err)
	}
	s.log.Info("controllers changed", "change", verb, "controller", id)
	return nil
}

// Answered returns when a controller last answered a request that this one sent as
// the leader. The zero time means never.
func (s *Store) Answered(id fleet.ControllerID) time.Time { return s.net.acks.at(raft.ServerID(id)) }

// Leader returns the leader and the term as raft knows them. A leader that died is
// returned until the next election begins. A candidate knows no leader, whatever
// raft says: a heartbeat that arrives just after the order to stand for election
// sets the old leader, and raft keeps it until the election is decided. While the disk hangs raft learns of no
// new leader. Leader then returns the one whose term could not be written.
func (s *Store) Leader() (id fleet.ControllerID, term fleet.Epoch, ok bool) {
	stands := s.raft.State() == raft.Candidate
	_, leader := s.raft.LeaderWithID()
	now := s.raft.CurrentTerm()
	if next := s.net.intake.refusedLeader(); next.term > now && s.disk.watch.isHung() {
		return fleet.ControllerID(next.id), fleet.Epoch(next.term), true
	}
	if stands || leader == raft.ServerID(s.ID()) && now <= s.net.gaveUp.Load() {
		return "", fleet.Epoch(now), false
	}
	return fleet.ControllerID(leader), fleet.Epoch(now), leader != ""
}

// CommitIndex returns the index of the last entry that a majority has, as far as
// this controller knows.
func (s *Store) CommitIndex() uint64 { return s.raft.CommitIndex() }

// AppliedIndex returns the index of the last entry in the state. It reaches the
// commit index only once the leader's first entry is applied: earlier entries of
// raft itself never reach the state.
func (s *Store) AppliedIndex() uint64 { return s.State().Applied }

// LastContact returns when the leader was last heard from, which is now if this
// controller leads. The zero time means never.
func (s *Store) LastContact() time.Time {
	if _, leads := s.leaderTerm(); leads {
		return time.Now()
	}
	return s.raft.LastContact()
}

// transferGrace is how long a transfer waits for writes under way. They take
// milliseconds.
const transferGrace = 500 * time.Millisecond

// Transfer hands leadership to a voter, or to any that is ready if id is "". It
// waits until this controller no longer leads. The error wraps fleet.ErrConflict if
// no voter took over, and fleet.ErrOutcomeUnknown if ctx ended first.
//
// A transfer would cut off writes under way, whose outcome nobody would know. It
// lets them end first, and Propose refuses new ones meanwhile.
func (s *Store) Transfer(ctx context.Context, to fleet.ControllerID) error {
	if _, leads := s.leaderTerm(); !leads {
		return fleet.ErrNotLeader
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	targets, err := s.successors(to)
	if err != nil {
		return err
	}
	empty := s.gate.shut()
	defer s.gate.open()
	grace := time.NewTimer(transferGrace)
	defer grace.Stop()
	select {
	case <-empty:
	case <-grace.C:
	case <-ctx.Done():
	}
	return s.transfer(ctx, targets)
}

// successors returns the voters that may take over, starting with the one that
// answered last.
func (s *Store) successors(to fleet.ControllerID) ([]fleet.ControllerID, error) {
	if to == s.ID() {
		return nil, fmt.Errorf("controller %s leads already: %w", to, fleet.ErrConflict)
	}
	all, err := s.Members()
	if err != nil {
		return nil, err
	}
	var out []fleet.ControllerID
	for _, m := range all {
		switch {
		case m.ID == s.ID() || to != "" && m.ID != to:
		case m.Voting:
			out = append(out, m.ID)
		case to != "":
			return nil, fmt.Errorf("controller %s has no vote yet: %w", to, fleet.ErrConflict)
		}
	}
	if len(out) == 0 && to != "" {
		return nil, fmt.Errorf("controller %s: %w", to, fleet.ErrUnknownController)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no other voter: %w", fleet.ErrConflict)
	}
	slices.SortStableFunc(out, func(a, b fleet.ControllerID) int {
		return s.Answered(b).Compare(s.Answered(a))
	})
	return out, nil
}

// transfer tries the targets in turn. Raft bounds each attempt by an election
// timeout. Raft could choose a target itself, but it only compares how much of the
// log the peers have, and may choose a dead one.
func (s *Store) transfer(ctx context.Context, targets []fleet.ControllerID) error {
	var errs []error
	for _, id := range targets {
		term, leads := s.leaderTerm()
		if !leads {
			return nil
		}
		if err := s.net.progress.ask(raft.ServerID(id), term, time.Now()); err != nil {
			errs = append(errs, fmt.Errorf("hand leadership to %s: %w", id, err))
			continue
		}
		done := make(chan error, 1)
		leave := s.reenter()
		go func() { // raft cannot cancel an operation
			defer leave()
			done <- s.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
		}()
		select {
		case err := <-done:
			if err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("hand leadership to %s: %w", id, err))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", fleet.ErrOutcomeUnknown,
				errors.Join(append(errs, fmt.Errorf("hand leadership to %s: %w", id, context.Cause(ctx)))...))
		}
	}
	if _, leads := s.leaderTerm(); !leads {
		return nil
	}
	return fmt.Errorf("%w: %w", fleet.ErrConflict, errors.Join(errs...))
}

// handOver hands leadership over for Close. If it fails the others elect a leader
// by themselves, a little later.
func (s *Store) handOver(ctx context.Context) {
	if _, leads := s.leaderTerm(); !leads || ctx.Err() != nil {
		return
	}
	targets, err := s.successors("")
	if err != nil {
		return // alone
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := s.transfer(ctx, targets); err != nil {
		s.log.Info("leadership not handed over", "err", err)
	}
}
