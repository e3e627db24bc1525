package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// lagAfter is how long a follower may hear from the leader and store nothing
	// before it counts as lagging. The leader sends its position many times a
	// second, even when there is nothing new.
	lagAfter = 5 * time.Second
	// lagEntries is how many entries a follower may be behind the leader.
	lagEntries = 1000
	// silentAfter is how long a leader may be silent before it counts as lost.
	silentAfter = 3 * time.Second
	// guardEvery is how often a store checks itself.
	guardEvery = time.Second
	// probeEvery is how often the disk is tested if nothing else writes to it. A
	// controller that is alone in its cluster does not test its disk: nobody could
	// take over, and the disk of a laptop may sleep.
	probeEvery = 5 * time.Second
)

// intake records what this controller, as a follower, receives from a leader.
type intake struct {
	mu     sync.Mutex
	term   uint64
	since  time.Time // when it first heard of a leader in this term
	stored time.Time // when it last had everything that the leader sent on disk
	commit uint64    // the last known commit index of the leader
	refuse refusedLeader

	contact time.Time // when a leader was last heard from, or this controller led at a check
	looked  time.Time // when this controller last checked itself
	returns uint64    // how often it came back after a silence

	// ledSince reports whether this controller has led after a time; see
	// Store.ledSince. It is set before the first request comes.
	ledSince func(time.Time) bool
}

// refusedLeader is a leader whose term cannot be written to the disk.
type refusedLeader struct {
	id   raft.ServerID
	term uint64
}

// heard records a request of a leader. stored is true if everything that it sent is
// on disk now.
func (i *intake) heard(term, commit uint64, stored bool, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if term < i.term {
		return
	}
	if term > i.term {
		i.term, i.since = term, now
	}
	i.noteContact(now)
	i.commit = max(i.commit, commit)
	if stored {
		i.stored = now
	}
}

// noteContact records contact with a leader. A controller that had none for a while,
// and did not lead, was cut off and came back. Others may have written meanwhile. The
// lock is held.
func (i *intake) noteContact(now time.Time) {
	limit := now.Add(-silentAfter)
	if !i.contact.IsZero() && i.contact.Before(limit) && !i.ledSince(limit) {
		i.returns++
	}
	i.contact = now
}

// noteCheck records that this controller checked itself, as it does every second. If
// the last check is long ago, the process was stopped and came back.
func (i *intake) noteCheck(leads bool, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	stopped := i.stopped(now)
	i.looked = now
	switch {
	case stopped:
		i.returns++
		i.contact = now // do not count this return twice
	case leads:
		i.contact = now
	}
	if leads {
		i.stored = now // a leader has everything that it sent
	}
}

// stopped reports whether this controller has not checked itself for a while. The
// lock is held.
func (i *intake) stopped(now time.Time) bool {
	return !i.looked.IsZero() && now.Sub(i.looked) > silentAfter
}

func (i *intake) returned(now time.Time) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped(now) {
		return i.returns + 1 // noteCheck is about to count it
	}
	return i.returns
}

// refused records a leader that was not answered because its term could not be
// written to a hung disk.
func (i *intake) refused(id raft.ServerID, term uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if term > i.refuse.term {
		i.refuse = refusedLeader{id, term}
	}
}

func (i *intake) refusedLeader() refusedLeader {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.refuse
}

// problem says how a follower lags, or returns "" if it does not. applied is the
// last entry that it has applied, and contact when it last heard from the leader.
func (i *intake) problem(applied uint64, contact, now time.Time) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.term == 0 || now.Sub(contact) > silentAfter {
		return "" // no leader to lag behind
	}
	behind := uint64(0)
	if i.commit > applied {
		behind = i.commit - applied
	}
	last := i.since
	if i.stored.After(last) {
		last = i.stored
	}
	switch quiet := now.Sub(last); {
	case quiet > lagAfter:
		return fmt.Sprintf("this controller has stored nothing that the leader sent for %s", quiet.Round(time.Second))
	case behind > lagEntries:
		return fmt.Sprintf("this controller is %d entries behind the leader", behind)
	}
	return ""
}

// Problem says what is wrong with this controller's copy of desired state: its disk
// does not work, or it lags behind the leader. It returns "" if nothing is wrong.
func (s *Store) Problem() string {
	if p := s.disk.watch.problem(); p != "" {
		return p
	}
	if _, leads := s.leaderTerm(); leads {
		return ""
	}
	return s.net.intake.problem(s.AppliedIndex(), s.raft.LastContact(), time.Now())
}

// Stale says why this controller may lack recent writes: it has a problem, or has
// not heard from a leader for a while. It returns "" if it has them all.
func (s *Store) Stale() string {
	if p := s.Problem(); p != "" {
		return p
	}
	if _, leads := s.leaderTerm(); leads {
		return ""
	}
	if silence := time.Since(s.raft.LastContact()); silence > silentAfter && !s.raft.LastContact().IsZero() {
		return fmt.Sprintf("this controller has not heard of a leader for %s", silence.Round(time.Second))
	}
	return ""
}

// Returns counts how often this controller came back after it was stopped or cut
// off for a while. Each time it may lack what was written meanwhile, which only the
// leader knows.
func (s *Store) Returns() uint64 {
	return s.net.intake.returned(time.Now())
}

// giveUp gives up leadership when the disk hangs. Raft cannot do so itself, because
// its main loop waits for the disk while its heartbeats keep the others from
// electing a leader that can write. From now on nothing more of this term is sent,
// so the others elect a leader. When the disk is back raft finds its lease lost.
func (s *Store) giveUp() {
	term, leads := s.leaderTerm()
	if !leads || !s.hasPeers() {
		return // nobody could take over
	}
	s.net.gaveUp.Store(term)
	s.log.Error("leadership is given up", "term", term, "reason", "the disk does not answer")
}

// hasPeers reports whether other controllers have a vote.
func (s *Store) hasPeers() bool {
	for _, m := range s.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage == raft.Voter && m.ID != raft.ServerID(s.ID()) {
			return true
		}
	}
	return false
}

// guard logs when a problem begins or ends and when no tenure begins, and tests the
// disk when nothing else writes to it.
func (s *Store) guard() {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	probing := make(chan struct{}, 1)
	lagging := false
	for {
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
		_, leads := s.leaderTerm()
		s.net.intake.noteCheck(leads, time.Now())
		if p := s.Problem(); (p != "") != lagging {
			lagging = p != ""
			if lagging {
				s.log.Warn("desired state not kept up to date", "reason", p)
			} else {
				s.log.Info("desired state up to date")
			}
			s.moved()
		}
		s.logBeginnings()
		if last, busy := s.disk.watch.idleSince(); busy || time.Since(last) < probeEvery || !s.hasPeers() {
			continue
		}
		select {
		case probing <- struct{}{}:
			// On a hung disk the probe does not return, and Close does not wait for it.
			s.probes.Go(func() {
				s.disk.probe()
				<-probing
			})
		default:
		}
	}
}
