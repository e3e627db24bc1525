package rpc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// sessionWorker opens and closes as the test says.
type sessionWorker struct {
	open   func(fleet.Order, fleet.SessionStart) (fleet.SessionOpened, error)
	closed func(fleet.ReplicaID, fleet.SessionID, string) error
}

func (w sessionWorker) OpenSession(_ context.Context, o fleet.Order, s fleet.SessionStart) (fleet.SessionOpened, error) {
	return w.open(o, s)
}

func (w sessionWorker) CloseSession(_ context.Context, id fleet.ReplicaID, s fleet.SessionID, reason string) error {
	return w.closed(id, s, reason)
}

func TestSessionsAtAWorker(t *testing.T) {
	order := fleet.Order{Cluster: "c", Incarnation: 2, Epoch: 3}
	first := fleet.SessionStart{
		Replica: "r", Session: "s", Initialize: []byte(`{"a":1}`), Restore: fleet.Restore{Subscriptions: []string{"u1", "u2"}, Level: "debug"},
	}
	var answer fleet.SessionOpened
	var fail error
	s := start(t, &fakeWorker{Sessions: sessionWorker{
		open: func(o fleet.Order, got fleet.SessionStart) (fleet.SessionOpened, error) {
			if o != order || !reflect.DeepEqual(got, first) {
				return answer, fmt.Errorf("got %+v %+v", o, got)
			}
			return answer, fail
		},
		closed: func(id fleet.ReplicaID, session fleet.SessionID, reason string) error {
			if id != "r" || session != "s" || reason != "over" {
				return fmt.Errorf("got %s %s %s", id, session, reason)
			}
			return fail
		},
	}})
	for _, answer = range []fleet.SessionOpened{{Version: 7, Result: []byte(`{}`)}, {Version: 8, Error: []byte(`{"code":1}`)}} {
		if got, err := s.OpenSession(t.Context(), order, first); err != nil || !reflect.DeepEqual(got, answer) {
			t.Errorf("OpenSession gave %+v, %v; want %+v", got, err, answer)
		}
	}
	if err := s.CloseSession(t.Context(), "r", "s", "over"); err != nil {
		t.Errorf("CloseSession gave %v", err)
	}
	for _, fail = range []error{fleet.ErrNotDelivered, fleet.ErrReplicaLost, fleet.ErrStaleEpoch} {
		if _, err := s.OpenSession(t.Context(), order, first); !errors.Is(err, fail) {
			t.Errorf("OpenSession gave %v, want %v", err, fail)
		}
	}
	fail = fleet.ErrUnknownReplica
	if err := s.CloseSession(t.Context(), "r", "s", "over"); !errors.Is(err, fail) {
		t.Errorf("CloseSession gave %v", err)
	}
}

// What a worker reports of sessions arrives.
func TestReportsOfSessions(t *testing.T) {
	want := fleet.Replica{ID: "r", Node: "n", Raw: true, Session: "s", SessionAt: time.Unix(5, 0).UTC(), Spare: true}
	if got := replicaFromPB(replicaToPB(&want), "n"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := nodeFromPB(nodeToPB(&fleet.NodeInfo{Node: "n", Sessions: true})); !got.Sessions {
		t.Errorf("got %+v", got)
	}
	if _, got := assignmentFromPB(assignmentToPB(fleet.Order{}, fleet.Assignment{ID: "r", Raw: true, Spare: true})); !got.Raw || !got.Spare {
		t.Errorf("got %+v", got)
	}
}

// teller is a Controller that tells of sessions.
type teller struct {
	queues
	records []fleet.SessionRecord
	give    func(fleet.SessionRequest) (fleet.SessionGiven, error)
}

func (c teller) WatchSessions(ctx context.Context, _ fleet.Order, send func([]fleet.SessionRecord) error) error {
	if err := send(c.records); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (c teller) TellSessions(_ context.Context, o fleet.Order, records []fleet.SessionRecord) error {
	if o.Cluster != "c" || !reflect.DeepEqual(records, c.records) {
		return fleet.ErrForeignCluster
	}
	return nil
}

func (c teller) GiveSession(_ context.Context, _ fleet.Order, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	return c.give(r)
}

func TestSessionsAtAController(t *testing.T) {
	at := time.Unix(1900000000, 0).UTC()
	records := []fleet.SessionRecord{
		{ID: "a", Until: at, Ended: true, Used: at, Began: at, Stamp: 5},
		{ID: "b", Until: at, Opened: []fleet.ServerName{"x", "y"}, Stamp: 6, Level: "info", Caller: "me", Subscriptions: []fleet.Subscription{{Server: "x", URI: "u"}}, Listener: "c1", Listened: 7},
	}
	request := fleet.SessionRequest{
		Server: "x", Session: "s", Until: at, Caller: "me", Initialize: []byte(`{}`), Restore: fleet.Restore{Subscriptions: []string{"u"}, Level: "info"},
	}
	var mu sync.Mutex
	var answer fleet.SessionGiven
	var fail error
	next := func(given fleet.SessionGiven, err error) {
		mu.Lock()
		defer mu.Unlock()
		answer, fail = given, err
	}
	client, stop := serveController(t, teller{records: records, give: func(r fleet.SessionRequest) (fleet.SessionGiven, error) {
		if !reflect.DeepEqual(r, request) {
			return fleet.SessionGiven{}, fmt.Errorf("got %+v", r)
		}
		mu.Lock()
		defer mu.Unlock()
		return answer, fail
	}}, ClientConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	var got []fleet.SessionRecord
	_ = client.WatchSessions(ctx, fleet.Order{}, func(r []fleet.SessionRecord) { got = r; cancel() })
	if !reflect.DeepEqual(got, records) {
		t.Errorf("got %+v, want %+v", got, records)
	}
	if err := client.TellSessions(t.Context(), fleet.Order{Cluster: "c"}, records); err != nil {
		t.Errorf("TellSessions gave %v", err)
	}
	if err := client.TellSessions(t.Context(), fleet.Order{Cluster: "d"}, records); !errors.Is(err, fleet.ErrForeignCluster) {
		t.Errorf("TellSessions of another cluster gave %v", err)
	}
	for _, answer := range []fleet.SessionGiven{{Replica: "r", Node: "n", Result: []byte(`{}`), Healed: true}, {Replica: "r", Node: "n", Error: []byte(`{}`), Again: true}} {
		next(answer, nil)
		if got, err := client.GiveSession(t.Context(), fleet.Order{}, request); err != nil || !reflect.DeepEqual(got, answer) {
			t.Errorf("got %+v, %v; want %+v", got, err, answer)
		}
	}
	for _, fail := range []error{fleet.ErrNotLeader, fleet.ErrOverloaded, fleet.ErrSessionLost, fleet.ErrNoReplica, fleet.ErrUnknownServer, fleet.ErrConflict, fleet.ErrReplicaLost} {
		next(fleet.SessionGiven{}, fail)
		if _, err := client.GiveSession(t.Context(), fleet.Order{}, request); !errors.Is(err, fail) || err.Error() != fail.Error() {
			t.Errorf("got %v, want %v, without the leader's address", err, fail)
		}
	}
	stop()
	if _, err := client.GiveSession(t.Context(), fleet.Order{}, request); !errors.Is(err, fleet.ErrNotLeader) {
		t.Errorf("of a controller that is gone: %v", err)
	}
}
