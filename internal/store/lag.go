package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// lagAfter is when a follower counts as lagging that hears from the leader
	// and stores nothing of its log. The leader sends its position many times a
	// second, also when there is nothing new.
	lagAfter = 5 * time.Second
	// lagEntries is how far behind the leader a follower may be at any time.
	lagEntries = 1000
	// silentAfter is when a leader counts as not heard of any more.
	silentAfter = 3 * time.Second
	// guardEvery is how often a store looks after itself.
	guardEvery = time.Second
	// probeEvery is how often the disk is written to if nothing else does. A
	// controller that is alone in its cluster does not: it has nobody to hand
	// leadership to, and laptops' disks may sleep.
	probeEvery = 5 * time.Second
)

// intake is what this controller, as a follower, gets from a leader.
type intake struct {
	mu     sync.Mutex
	term   uint64
	since  time.Time // when it first heard of a leader in this term
	stored time.Time // when it last had all that the leader sent on disk
	commit uint64    // the leader's commit index as last told
	refuse refusedLeader

	contact time.Time // when a leader was last heard, or this controller led
	looked  time.Time // when this controller last looked after itself
	returns uint64    // how often it came back after a silence
}

// refusedLeader is a leader whose term cannot be written down here.
type refusedLeader struct {
	id   raft.ServerID
	term uint64
}

// heard notes a leader's word. Stored reports whether all that it sent is on
// disk now.
func (i *intake) heard(term, commit uint64, stored bool, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if term < i.term {
		return
	}
	if term > i.term {
		i.term, i.since = term, now
	}
	i.meet(now)
	i.commit = max(i.commit, commit)
	if stored {
		i.stored = now
	}
}

// meet notes contact with a leader. A controller that was without it for a
// while, since it was cut off, came back: others may have written meanwhile.
// The lock is held.
func (i *intake) meet(now time.Time) {
	if !i.contact.IsZero() && now.Sub(i.contact) > silentAfter {
		i.returns++
	}
	i.contact = now
}

// look notes that this controller looked after itself, as it does every second.
// If it did not for a while it was stopped itself, and came back.
func (i *intake) look(leads bool, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	stopped := i.stopped(now)
	i.looked = now
	switch {
	case stopped:
		i.returns++
		i.contact = now // one return is not counted twice
	case leads:
		i.contact = now
	}
	if leads {
		i.stored = now // all that it sent itself
	}
}

// stopped reports whether this controller has not looked after itself for a
// while. The lock is held.
func (i *intake) stopped(now time.Time) bool {
	return !i.looked.IsZero() && now.Sub(i.looked) > silentAfter
}

func (i *intake) returned(now time.Time) uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped(now) {
		return i.returns + 1 // look is about to count it
	}
	return i.returns
}

// refused notes a leader that was not answered, since its term could not be
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

// problem says how a follower lags, "" if it does not. It has applied the
// entries up to an index, and last heard of the leader at a time.
func (i *intake) problem(applied uint64, contact, now time.Time) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.term == 0 || now.Sub(contact) > silentAfter {
		return "" // there is no leader to lag behind
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

// Problem says why this controller's own copy of desired state is not what it
// should be: its disk does not work, or it lags behind the leader. It returns
// "" if all is well.
func (s *Store) Problem() string {
	if p := s.disk.watch.problem(); p != "" {
		return p
	}
	if _, leads := s.leaderTerm(); leads {
		return ""
	}
	return s.net.intake.problem(s.AppliedIndex(), s.raft.LastContact(), time.Now())
}

// Stale says why this controller may lack what was written lately: it has a
// problem, or has not heard of a leader for a while. It returns "" if it does
// not.
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

// Returns counts how often this controller came back after it had been stopped
// or cut off for a while. Each time it may lack what was written meanwhile, and
// only the leader knows.
func (s *Store) Returns() uint64 {
	return s.net.intake.returned(time.Now())
}

// giveUp gives leadership up when the disk hangs. Raft's main loop waits for
// the disk, so raft itself cannot: its heartbeats would keep the others from
// electing a leader that can write. From now on the others hear nothing more
// of this term, and elect one; raft finds its lease lost when the disk is back.
func (s *Store) giveUp() {
	term, leads := s.leaderTerm()
	if !leads || !s.hasPeers() {
		return // alone there is nobody to take over
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

// guard logs when a problem comes or goes, and when tenures do not begin, and
// tries the disk when nothing else writes to it.
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
		s.net.intake.look(leads, time.Now())
		if p := s.Problem(); (p != "") != lagging {
			lagging = p != ""
			if lagging {
				s.log.Warn("desired state is not kept up to date here", "reason", p)
			} else {
				s.log.Info("desired state is up to date here")
			}
			s.moved()
		}
		s.lookAtBeginnings()
		if last, busy := s.disk.watch.idleSince(); busy || time.Since(last) < probeEvery || !s.hasPeers() {
			continue
		}
		select {
		case probing <- struct{}{}:
			// On a hung disk it does not return, and Close does not wait for it.
			s.probes.Go(func() {
				s.disk.probe()
				<-probing
			})
		default:
		}
	}
}
