package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestCloseHandsOver(t *testing.T) {
	c := three(t)
	c.must(put("a", "x"))
	old := c.leader()
	term := old.State().Lead.Term
	c.close(old)
	lead := c.leader()
	if err := has(c.read(), "a", "x"); err != nil || c.read().Lead.Term <= term {
		t.Errorf("%v; term %d after %d", err, c.read().Lead.Term, term)
	}
	members, err := lead.Members()
	if err != nil || !slices.Contains(members, Voter{ID: old.ID(), Voting: true}) {
		t.Errorf("members = %v, %v; want %s still to vote", members, err, old.ID())
	}
	if _, err := old.Propose(t.Context(), put("b", "y")); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("Propose after Close: %v, want ErrNotLeader", err)
	}
	if _, err := old.Read(t.Context()); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("Read after Close: %v, want ErrNotLeader", err)
	}
	if err := old.Close(t.Context()); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// The next leader does not wait for an election timeout. It was told to begin, so the
// old leader learns of a higher term before it shuts down.
func TestCloseTellsTheNextLeader(t *testing.T) {
	c := three(t)
	eventually(t, "a hand-over", func() error { // one may fail on a busy machine
		old := c.leader()
		term := old.raft.CurrentTerm()
		c.close(old)
		after := old.raft.CurrentTerm()
		c.restart(old)
		if after <= term {
			return fmt.Errorf("term %d when it shut down, %d when it led", after, term)
		}
		return nil
	})
}

// The old leader's last heartbeat may arrive after its order to stand for election.
// Raft takes it for the leader again, for as long as nobody wins.
func TestCandidateKnowsNoLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster, _ *pipes) {
		last := c.followers()[0]
		for _, s := range c.stores() {
			if s != last {
				c.kill(s)
			}
		}
		nobody := func() error {
			if id, _, ok := last.Leader(); ok {
				return fmt.Errorf("%s leads", id)
			}
			return nil
		}
		eventually(t, "no leader", nobody)
		old := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("old"), Addr: []byte("old")}
		send := func(command any) {
			answer := make(chan raft.RPCResponse, 1)
			last.net.requests <- raft.RPC{Command: command, RespChan: answer}
			if r := <-answer; r.Error != nil {
				t.Fatalf("%T: %v", command, r.Error)
			}
		}
		send(&raft.TimeoutNowRequest{RPCHeader: old})
		send(&raft.AppendEntriesRequest{RPCHeader: old, Term: last.raft.CurrentTerm()})
		for range 10 {
			if _, id := last.raft.LeaderWithID(); id != "old" {
				t.Fatalf("raft's leader is %q", id)
			}
			if err := nobody(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
	})
}

// A tenure that takes long to end delays the next one of the same controller.
func TestTenuresDoNotOverlap(t *testing.T) {
	c := three(t)
	slow := c.leader()
	end := make(chan struct{})
	c.mu.Lock()
	c.linger = map[fleet.ControllerID]chan struct{}{slow.ID(): end}
	c.mu.Unlock()
	eventually(t, "another leader", func() error { return slow.Transfer(t.Context(), "") })
	eventually(t, "leadership back", func() error {
		if _, leads := slow.leaderTerm(); leads {
			return nil
		}
		for _, s := range c.stores() {
			if _, ok := s.tenure(); ok {
				return s.Transfer(t.Context(), slow.ID())
			}
		}
		return errors.New("nobody leads")
	})
	for range 20 { // round trips through the log in which a tenure could begin
		if err := slow.raft.Barrier(0).Error(); err != nil {
			break
		}
	}
	if _, ok := slow.tenure(); ok {
		t.Error("a tenure began before the last one ended")
	}
	close(end)
	c.leader() // and cluster.checkTenures looks at all
}

func TestTransfer(t *testing.T) {
	c := three(t)
	lead := c.leader()
	for to, want := range map[fleet.ControllerID]error{"nobody": fleet.ErrUnknownController, lead.ID(): fleet.ErrConflict} {
		if err := lead.Transfer(t.Context(), to); !errors.Is(err, want) && !errors.Is(err, fleet.ErrNotLeader) {
			t.Errorf("Transfer to %s: %v, want %v", to, err, want)
		}
	}
	eventually(t, "leadership at the chosen one", func() error {
		to := c.followers()[0]
		if err := c.leader().Transfer(t.Context(), to.ID()); err != nil {
			return err
		}
		if c.leader() != to {
			return errors.New("another one leads")
		}
		return nil
	})
}
