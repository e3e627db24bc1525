package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// maxEntry bounds one entry. Followers store it in one transaction, which
	// should fit between two heartbeats.
	maxEntry = 8 << 20
	// enqueueTimeout bounds how long an entry waits for raft's main loop, which may
	// be waiting for the disk.
	enqueueTimeout = 3 * time.Second
	// DefaultWriteTimeout is how long a write waits for a majority.
	DefaultWriteTimeout = 10 * time.Second
	// maxPending and maxPendingBytes bound the entries that no majority has stored
	// yet. Raft keeps them in memory, even those for which nobody waits any more.
	maxPending      = 256
	maxPendingBytes = 64 << 20
)

// Propose writes a command. It returns the outcome once a majority has the command
// on disk and it is applied here. The error wraps
//   - fleet.ErrNotLeader: nothing was written, and will not be;
//   - fleet.ErrOutcomeUnknown: it may have been written, or may be later;
//   - fleet.ErrOverloaded: too many writes wait for a majority, and nothing was
//     written;
//   - fleet.ErrUnsupported: a living controller would not understand it;
//   - the result's Err: the command was refused.
//
// Leadership is confirmed first, by a linearizable read: a leader that has lost
// its majority says ErrNotLeader rather than ErrOutcomeUnknown. A command that
// changes nothing is answered from that read, without an entry.
func (s *Store) Propose(ctx context.Context, c desired.Command) (desired.Result, error) {
	if !s.gate.enter() {
		return desired.Result{}, fmt.Errorf("leadership is being handed over: %w", fleet.ErrNotLeader)
	}
	defer s.gate.leave()
	if err := s.understood(c); err != nil {
		return desired.Result{}, err
	}
	st, err := s.Read(ctx)
	if err != nil {
		return desired.Result{}, err
	}
	if !st.NeedsEntry(c) {
		return desired.Result{Index: st.Applied, Term: uint64(st.Lead.Term), State: st, Warnings: st.DryRun(time.Now(), c).Warnings}, nil
	}
	return s.commit(ctx, c)
}

// SetKnownNodes remembers the nodes that may be running replicas. A new leader
// waits for their reports before it considers their replicas gone.
func (s *Store) SetKnownNodes(ctx context.Context, nodes []fleet.NodeID) error {
	_, err := s.Propose(ctx, desired.SetKnown{Nodes: slices.Sorted(slices.Values(nodes))})
	return err
}

// understood returns an error if the oldest living controller does not know the
// command, and would stop.
func (s *Store) understood(c desired.Command) error {
	have := desired.Format
	if s.cfg.Formats != nil {
		have = min(have, s.cfg.Formats())
	}
	if need := desired.Needs(c); need > have {
		return fmt.Errorf("%s: it needs format %d, and a living controller understands only %d, upgrade it first: %w",
			c, need, have, fleet.ErrUnsupported)
	}
	return nil
}

// commit writes one entry.
func (s *Store) commit(ctx context.Context, c desired.Command) (desired.Result, error) {
	data, err := desired.EncodeEntry(desired.Entry{Time: time.Now(), Command: c})
	if err != nil {
		return desired.Result{}, fmt.Errorf("%s: %w", c, err)
	}
	if len(data) > maxEntry {
		return desired.Result{}, fmt.Errorf("%s: %d bytes are more than the %d that can be stored at once: %w", c, len(data), maxEntry, fleet.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return desired.Result{}, fmt.Errorf("%w: %w", fleet.ErrNotLeader, err) // nothing was written
	}
	leave, err := s.enter()
	if err != nil {
		return desired.Result{}, err
	}
	release, err := s.pending.add(len(data))
	if err != nil {
		leave()
		return desired.Result{}, s.explained(err)
	}
	wait := enqueueTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(deadline), time.Millisecond))
	}
	term, _ := s.leaderTerm()
	var response any // read after done
	done := make(chan error, 1)
	// Raft cannot cancel an operation, so a goroutine waits until the entry is
	// applied or leadership is lost. Close waits for the goroutine.
	go func() {
		defer leave()
		defer release()
		future := s.raft.Apply(data, wait)
		err := future.Error()
		response = future.Response()
		done <- err
	}()
	if err := s.await(ctx, term, done); err != nil {
		return desired.Result{}, err
	}
	if err, ok := response.(error); ok {
		// The entry is in the log, and this controller cannot apply it.
		return desired.Result{}, fmt.Errorf("%w: %w", fleet.ErrOutcomeUnknown, err)
	}
	res := response.(desired.Result)
	return res, res.Err
}

// await waits, within WriteTimeout, until an operation of raft in a term has
// ended. Its error says whether anything may have been written, and why.
func (s *Store) await(ctx context.Context, term uint64, done <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.WriteTimeout, fmt.Errorf("it takes more than %s", s.cfg.WriteTimeout))
	defer cancel()
	hung := s.disk.watch.hangs()
	for {
		select {
		case err := <-done:
			switch {
			case err == nil:
				return nil
			case errors.Is(err, raft.ErrLeadershipLost):
				return s.explained(s.hindered(writeError(err), term))
			}
			return s.explained(writeError(err))
		case <-hung:
			hung = nil // handled once
			if _, leads := s.leaderTerm(); !leads {
				return s.explained(fmt.Errorf("%w: leadership was given up", fleet.ErrOutcomeUnknown))
			}
		case <-ctx.Done():
			err := fmt.Errorf("%w: no majority of the controllers has stored it: %w", fleet.ErrOutcomeUnknown, context.Cause(ctx))
			return s.explained(s.hindered(err, term))
		}
	}
}

// explained adds the problem of this controller's disk to the error of a write. On
// a full disk the first write fails for lack of space, and later ones because of
// the consequences, such as a missing leader.
func (s *Store) explained(err error) error {
	if p := s.disk.watch.problem(); p != "" {
		return fmt.Errorf("%w; %s", err, p)
	}
	return err
}

// hindered adds to the error of a write in a term why other controllers do not
// store it, or did not when leadership was lost.
func (s *Store) hindered(err error, term uint64) error {
	if p := s.peersProblem(term); p != "" {
		return fmt.Errorf("%w; %s", err, p)
	}
	return err
}

// notLeader returns the error of operations that only a leader can do. If this
// controller is elected and its tenure cannot begin, since no majority stores an
// entry, the error says why.
func (s *Store) notLeader() error {
	err := error(fleet.ErrNotLeader)
	if term, leads := s.leaderTerm(); leads {
		err = s.hindered(err, term)
	}
	return s.explained(err)
}

// pending counts the entries that no majority has stored yet.
type pending struct {
	mu    sync.Mutex
	n     int
	bytes int
}

func (p *pending) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// add counts one more entry. The error wraps fleet.ErrOverloaded.
func (p *pending) add(bytes int) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= maxPending || p.n > 0 && p.bytes+bytes > maxPendingBytes {
		return nil, fmt.Errorf("%w: %d writes of %d bytes wait for a majority of the controllers to store them, and nothing more was written",
			fleet.ErrOverloaded, p.n, p.bytes)
	}
	p.n++
	p.bytes += bytes
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.n--
		p.bytes -= bytes
	}, nil
}

// writeError returns raft's error with whether anything may have been written.
func writeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), // the main loop refused it before it had an index
		errors.Is(err, raft.ErrLeadershipTransferInProgress), // the same
		errors.Is(err, raft.ErrEnqueueTimeout):               // the main loop never took it: the channel has no buffer
		return fmt.Errorf("%w: %w", fleet.ErrNotLeader, err)
	default:
		// ErrLeadershipLost: the entry has an index, and a majority may have it. The
		// next leader keeps or drops it. ErrRaftShutdown: committed entries get it
		// too. Any other error comes from the disk, which may have the entry.
		return fmt.Errorf("%w: %w", fleet.ErrOutcomeUnknown, err)
	}
}
