package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestHeartbeat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		synctest.Wait()
		before := r.view.snapshot()
		time.Sleep(10*time.Second + time.Millisecond) // of the bubble's clock
		after := r.view.snapshot()
		if n := after.reports - before.reports; n != 10 {
			t.Errorf("%d reports in 10 s without a change", n)
		}
		if rep := after.last; rep.Full || len(rep.Replicas) != 0 || rep.Version != before.last.Version {
			t.Errorf("heartbeat: %+v", rep)
		}
	})
}

// A watch that comes later, or again, gets everything, and its first report
// has at least the version that an order returned.
func TestLateWatchGetsAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		r.ready("b", nil)
		r.order("b", "bye")
		r.until("b", fleet.PhaseStopped)
		version, err := r.StartReplica(t.Context(), order, assignment("c", nil))
		if err != nil {
			t.Fatal(err)
		}
		done := errors.New("seen enough")
		err = r.Watch(t.Context(), fleet.Order{Cluster: cluster, Epoch: 2}, func(rep fleet.Report) error {
			if !rep.Now.Equal(time.Now()) {
				t.Errorf("the report is of %v", rep.Now)
			}
			if !rep.Full || rep.Version < version || rep.Node == nil || rep.Node.Node != "n1" || len(rep.Replicas) != 3 || len(rep.Catalogues) != 1 {
				t.Errorf("first report: %+v", rep)
			}
			return done
		})
		if !errors.Is(err, done) {
			t.Error(err)
		}
		if _, err := r.StopReplica(t.Context(), order, "a", ""); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an order of the old epoch, after a watch of the new one: %v", err)
		}
	})
}

// A controller that does not read holds up nobody, and catches up in one
// report.
func TestSlowWatchSkips(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		ctx, cancel := context.WithCancel(t.Context())
		resume, watched := make(chan struct{}), make(chan error)
		var reports []fleet.Report
		slow := newView()
		go func() {
			watched <- r.Watch(ctx, order, func(rep fleet.Report) error {
				reports = append(reports, rep)
				if len(reports) == 1 {
					<-resume
				}
				return slow.take(rep)
			})
		}()
		synctest.Wait()
		for i := range 5 {
			id := fleet.ReplicaID(fmt.Sprintf("r%d", i))
			r.ready(id, nil)
			r.order(id, "bye")
			r.until(id, fleet.PhaseStopped)
		}
		close(resume)
		synctest.Wait()
		cancel()
		if err := <-watched; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if len(reports) != 2 || len(reports[1].Replicas) != 5 {
			t.Errorf("%d reports: %+v", len(reports), reports)
		}
	})
}

func TestEndedAreForgotten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), func(c *Config) { c.KeepEnded, c.KeepFor = 2, time.Minute })
		for i := range 5 {
			r.order(fleet.ReplicaID(fmt.Sprintf("gone-%d", i)), "no")
		}
		v := r.view.until(t, "the five are reported", func(v *view) (bool, any) { return len(v.replicas) == 5, len(v.replicas) })
		if len(v.replicas) != 5 {
			t.Error(v.replicas)
		}
		began := time.Now()
		v = r.view.until(t, "three are forgotten", func(v *view) (bool, any) { return len(v.replicas) == 2, len(v.replicas) })
		if took := time.Since(began); took < 59*time.Second || took > 62*time.Second {
			t.Errorf("forgotten after %s", took)
		}
		if _, kept := v.replicas["gone-4"]; !kept {
			t.Errorf("the last one was forgotten: %v", v.replicas)
		}
		for i := range 1000 {
			r.order(fleet.ReplicaID(fmt.Sprintf("mad-%d", i)), "no")
		}
		r.board.mu.Lock()
		defer r.board.mu.Unlock()
		if n := len(r.board.entries); n > hardEnded*2 {
			t.Errorf("%d are remembered", n)
		}
	})
}

// A new leader sees from what ended how often a server failed: the last ends of
// each server are remembered, also when another one fails all the time.
func TestLastEndsOfEachServerAreRemembered(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := newBoard(fleet.NodeInfo{Node: "n"}, 20, time.Minute)
		end := func(server fleet.ServerName, n int) {
			for i := range n {
				id := fleet.ReplicaID(fmt.Sprintf("%s-%d", server, i))
				if _, _, err := b.add(fleet.Assignment{ID: id, Server: server, Template: new(fleet.Template)}, newStderrRing()); err != nil {
					t.Fatal(err)
				}
				b.move(id, fleet.PhaseFailed, func(rep *fleet.Replica) { rep.EndedAt = time.Now() })
			}
		}
		kept := func() map[fleet.ServerName]int {
			got := map[fleet.ServerName]int{}
			for _, e := range b.entries {
				got[e.report.Server]++
			}
			if len(b.ended) != len(b.entries) {
				t.Errorf("%d ends in order, %d known", len(b.ended), len(b.entries))
			}
			return got
		}
		end("calm", 3)
		end("busy", 30)
		time.Sleep(time.Hour) // of the bubble's clock
		end("mad", 100)
		if got := kept(); got["calm"] != 3 || got["busy"] != 10 || got["mad"] != 100 {
			t.Errorf("within a minute: %v", got)
		}
		time.Sleep(time.Minute)
		b.forget()
		if got := kept(); got["calm"] != 3 || got["busy"] != 10 || got["mad"] != 20 {
			t.Errorf("later: %v", got)
		}
		if b.entries["busy-29"] == nil || b.entries["mad-99"] == nil {
			t.Error("the last end of a server is not among those remembered")
		}
		end("madder", 2*hardEnded*20)
		if got := kept(); got["calm"] != 3 || got["busy"] != 10 || got["mad"] != 10 || len(b.entries) != hardEnded*20 {
			t.Errorf("beyond the hard bound: %v", got)
		}
		for i := range 100 {
			end(fleet.ServerName(fmt.Sprintf("s%d", i)), 10)
		}
		if got := kept(); got["calm"] != 0 || got["s99"] != 10 || len(b.entries) != hardEnded*20 {
			t.Errorf("of too many servers the last to end: %v", got)
		}
	})
}

func TestLogs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRig(t, agenttest.New(), nil)
		r.ready("a", nil)
		for i := range 5 {
			r.call("a", "stderr", fmt.Sprintf(`{"text":"line %d"}`, i)).text(t)
		}
		synctest.Wait()
		read := func(id fleet.ReplicaID, tail int, follow bool) (string, error) {
			var got []string
			err := r.Logs(t.Context(), id, tail, follow, func(lines []fleet.LogLine) error {
				for _, l := range lines {
					got = append(got, l.Text)
				}
				return nil
			})
			return strings.Join(got, ","), err
		}
		if got, err := read("a", 2, false); got != "line 3,line 4" || err != nil {
			t.Errorf("tail 2: %q, %v", got, err)
		}
		if got, err := read("a", 0, false); got != "line 0,line 1,line 2,line 3,line 4" || err != nil {
			t.Errorf("all: %q, %v", got, err)
		}
		if _, err := read("b", 0, false); !errors.Is(err, fleet.ErrUnknownReplica) {
			t.Errorf("unknown: %v", err)
		}
		followed := make(chan string)
		go func() {
			got, err := read("a", 1, true)
			if err != nil {
				t.Error(err)
			}
			followed <- got
		}()
		synctest.Wait()
		r.call("a", "stderr", `{"text":"new"}`).text(t)
		r.order("a", "bye")
		if got := <-followed; got != "line 4,new" {
			t.Errorf("followed: %q", got)
		}
		r.until("a", fleet.PhaseStopped)
		if got, err := read("a", 1, true); got != "new" || err != nil {
			t.Errorf("after the end: %q, %v", got, err)
		}
	})
}

func TestStderrIsBounded(t *testing.T) {
	ring := newStderrRing()
	long := strings.Repeat("y", 3*maxLine)
	flood := strings.Repeat("x", 1000)
	src := io.MultiReader(strings.NewReader(long+"\n"), strings.NewReader(strings.Repeat(flood+"\r\n", 2000)), strings.NewReader("\n\nlast\xff without end"))
	var out strings.Builder
	pumpStderr(src, ring, nil, slog.New(slog.NewTextHandler(&out, nil)))
	if n := len(ring.lines); n > maxLines || ring.size() > maxLineBytes {
		t.Errorf("%d lines of %d bytes are kept", n, ring.size())
	}
	if got := ring.last(2, 10000, false); len(got) != 2 || got[0] != flood || got[1] != "last\uFFFD without end" {
		t.Errorf("last lines: %.40q", got)
	}
	if ring.total != 2002 {
		t.Errorf("%d lines were seen", ring.total)
	}
	if n := strings.Count(out.String(), "msg=stderr "); n < logBurst || n > logBurst+logRate*5 {
		t.Errorf("%d lines were logged", n)
	}
	contains(t, out.String(), "stderr lines not logged")

	long1 := newStderrRing()
	pumpStderr(strings.NewReader(long+"\nnext\n"), long1, nil, slog.New(slog.DiscardHandler))
	if got := long1.last(2, 1<<20, true); len(got) != 2 || len(got[0]) != maxLine || got[1] != "next" {
		t.Errorf("a long line: %d lines", len(got))
	}
}

func TestOldEndedLogsAreTrimmed(t *testing.T) {
	b := newBoard(fleet.NodeInfo{Node: "n"}, 1000, time.Hour)
	for i := range 100 {
		id := fleet.ReplicaID(fmt.Sprint(i))
		ring := newStderrRing()
		for range 250 {
			ring.add(strings.Repeat("z", 1000))
		}
		if _, _, err := b.add(fleet.Assignment{ID: id, Template: new(fleet.Template)}, ring); err != nil {
			t.Fatal(err)
		}
		b.move(id, fleet.PhaseFailed, func(rep *fleet.Replica) { rep.Log = ring.last(2, 10000, false) })
	}
	size := 0
	for _, e := range b.entries {
		size += e.stderr.size()
		if n := len(e.stderr.lines); n < 2 {
			t.Fatalf("%s has %d lines left", e.report.ID, n)
		}
	}
	if size > maxEndedLogs+100*3000 {
		t.Errorf("%d bytes are kept", size)
	}
}
