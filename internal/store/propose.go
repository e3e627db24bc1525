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
	// maxEntry bounds one entry: followers store it in one transaction, between
	// two heartbeats if possible.
	maxEntry = 8 << 20
	// enqueueTimeout bounds how long an entry waits for raft's main loop, which
	// waits for the disk.
	enqueueTimeout = 3 * time.Second
	// DefaultWriteTimeout is how long a write waits for a majority.
	DefaultWriteTimeout = 10 * time.Second
	// maxPending and maxPendingBytes bound the entries that no majority has yet,
	// also those for which nobody waits any more: raft keeps them in memory.
	maxPending      = 256
	maxPendingBytes = 64 << 20
)

// Propose writes a command and returns what became of it once a majority has it
// on disk and it is applied here. The error wraps
//   - fleet.ErrNotLeader: nothing was written, and will not be;
//   - fleet.ErrOutcomeUnknown: it was perhaps written, or will be;
//   - fleet.ErrOverloaded: too many writes wait for a majority already, and
//     nothing was written;
//   - fleet.ErrUnsupported: a living controller would not understand it;
//   - what the result's Err says: the command was refused.
//
// Leadership is confirmed first, by a linearizable read: a leader that has lost
// its majority says ErrNotLeader rather than ErrOutcomeUnknown. A command that
// changes nothing is answered from that read, without an entry.
func (s *Store) Propose(ctx context.Context, c desired.Command) (desired.Result, error) {
	if err := s.understood(c); err != nil {
		return desired.Result{}, err
	}
	st, err := s.Read(ctx)
	if err != nil {
		return desired.Result{}, err
	}
	if !st.NeedsEntry(c) {
		return desired.Result{Index: st.Applied, Term: uint64(st.Lead.Term), State: st}, nil
	}
	return s.commit(ctx, c)
}

// SetKnownNodes remembers the nodes that may be running replicas: a new leader
// waits for them before it believes their replicas to be gone.
func (s *Store) SetKnownNodes(ctx context.Context, nodes []fleet.NodeID) error {
	_, err := s.Propose(ctx, desired.SetKnown{Nodes: slices.Sorted(slices.Values(nodes))})
	return err
}

// understood refuses what the oldest living controller would stop at.
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
	// Raft cannot be told to give up, so someone must wait as long as it takes:
	// until the entry is applied or leadership is lost. Close waits for it.
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
		// It is in the log and this controller cannot apply it.
		return desired.Result{}, fmt.Errorf("%w: %w", fleet.ErrOutcomeUnknown, err)
	}
	res := response.(desired.Result)
	return res, res.Err
}

// await waits for the end of something that raft does in a term, but not for
// ever. Its error says whether anything may have been written, and why.
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
			hung = nil // said once
			if _, leads := s.leaderTerm(); !leads {
				return s.explained(fmt.Errorf("%w: leadership was given up", fleet.ErrOutcomeUnknown))
			}
		case <-ctx.Done():
			err := fmt.Errorf("%w: no majority of the controllers has stored it: %w", fleet.ErrOutcomeUnknown, context.Cause(ctx))
			return s.explained(s.hindered(err, term))
		}
	}
}

// explained adds what is wrong here to the error of a write. On a full disk the
// first write fails for want of space, and those after it for what follows from
// that, as that nobody leads.
func (s *Store) explained(err error) error {
	if p := s.disk.watch.problem(); p != "" {
		return fmt.Errorf("%w; %s", err, p)
	}
	return err
}

// hindered adds to the error of a write in a term what keeps others from storing
// it, or did when leadership was lost.
func (s *Store) hindered(err error, term uint64) error {
	if p := s.peersProblem(term); p != "" {
		return fmt.Errorf("%w; %s", err, p)
	}
	return err
}

// notLeader is the error of what only a leader can do. One that is elected and
// whose tenure cannot begin, since no majority stores an entry, says why.
func (s *Store) notLeader() error {
	err := error(fleet.ErrNotLeader)
	if term, leads := s.leaderTerm(); leads {
		err = s.hindered(err, term)
	}
	return s.explained(err)
}

// pending counts the entries on their way to a majority.
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

// add makes room for one more. Its error wraps fleet.ErrOverloaded.
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

// writeError tells from raft's error whether anything may have been written.
func writeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), // refused by the main loop before it was given an index
		errors.Is(err, raft.ErrLeadershipTransferInProgress), // the same
		errors.Is(err, raft.ErrEnqueueTimeout):               // the main loop never took it: the channel to it holds nothing
		return fmt.Errorf("%w: %w", fleet.ErrNotLeader, err)
	default:
		// ErrLeadershipLost: it has an index, perhaps on a majority; the next
		// leader keeps or drops it. ErrRaftShutdown: also said of entries that
		// were committed. Anything else comes from the disk, which may have it.
		return fmt.Errorf("%w: %w", fleet.ErrOutcomeUnknown, err)
	}
}
