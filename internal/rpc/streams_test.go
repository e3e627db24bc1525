package rpc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// streamsWorker is a worker whose streams are what the test sets.
type streamsWorker struct {
	*fakeWorker
	read func(context.Context, fleet.ReadRequest, func([]fleet.Message) error) error
}

func (w *streamsWorker) ReadStream(ctx context.Context, r fleet.ReadRequest, send func([]fleet.Message) error) error {
	return w.read(ctx, r, send)
}

// Messages arrive as they were sent, whatever their size, and in order.
func TestReadStream(t *testing.T) {
	sent := []fleet.Message{
		{Seq: 1, Kind: fleet.MessageNotification, Method: "n", Params: []byte(`{"a":1.0}`)},
		{Seq: 2, Kind: fleet.MessageNotification, Method: "none"},
		{Seq: 5, Kind: fleet.MessageRequest, Method: "r", ID: []byte(`"id"`), Params: []byte("{}")},
	}
	for i := range 100 {
		sent = append(sent, fleet.Message{Seq: uint64(6 + i), Kind: fleet.MessageNotification, Method: "n", Params: payload(10 << 10)})
	}
	replies := map[string]fleet.Message{
		"result":       {Seq: 200, Kind: fleet.MessageReply, Result: []byte("{}")},
		"large result": {Seq: 200, Kind: fleet.MessageReply, Result: payload(20 << 20)},
		"error":        {Seq: 200, Kind: fleet.MessageReply, Error: []byte(`{"code":1}`)},
		"failure":      {Seq: 200, Kind: fleet.MessageReply, Err: fmt.Errorf("x: %w", fleet.ErrBadReply)},
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			wanted := fleet.ReadRequest{Stream: "s", Owner: "o", After: 7, Claim: true, Unread: true}
			s := start(t, &streamsWorker{&fakeWorker{}, func(_ context.Context, r fleet.ReadRequest, send func([]fleet.Message) error) error {
				if r != wanted {
					t.Errorf("asked for %+v, want %+v", r, wanted)
				}
				return errors.Join(send(nil), send(sent), send([]fleet.Message{reply}))
			}})
			var got []fleet.Message
			found := false
			err := s.ReadStream(t.Context(), wanted, func(ms []fleet.Message) error {
				if found = found || ms == nil; !found {
					t.Error("messages came before the stream was found")
				}
				got = append(got, ms...)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			last := got[len(got)-1]
			if reply.Err != nil && errors.Is(last.Err, fleet.ErrBadReply) {
				last.Err = reply.Err
			}
			if got = append(got[:len(got)-1:len(got)-1], last); !reflect.DeepEqual(got, append(sent[:len(sent):len(sent)], reply)) {
				t.Errorf("%d messages came, want the %d that were sent", len(got), len(sent)+1)
			}
		})
	}
}

// Fail ends the reading of streams, and a worker that is gone is said to be lost.
func TestReadStreamOfLostWorker(t *testing.T) {
	blocks := &streamsWorker{&fakeWorker{}, func(ctx context.Context, _ fleet.ReadRequest, send func([]fleet.Message) error) error {
		_ = send(nil)
		<-ctx.Done()
		return ctx.Err()
	}}
	for name, lose := range map[string]func(*site){
		"failed": func(s *site) { s.Fail(errors.New("gossip says so")) },
		"closed": func(s *site) { s.Close() },
		"cut":    func(s *site) { s.dialer.cut() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, blocks)
			err := s.ReadStream(t.Context(), fleet.ReadRequest{Stream: "s"}, func([]fleet.Message) error {
				lose(s)
				return nil
			})
			if !errors.Is(err, fleet.ErrWorkerLost) {
				t.Errorf("ReadStream: %v", err)
			}
		})
	}
}

// The notifications of a call with a stream are bounded while the connection is slow.
// Requests of the server are not dropped.
func TestNumberedMessagesAreBounded(t *testing.T) {
	call := new(liveCall)
	small, large := fleet.CallEvent{Seq: 1, Params: payload(10)}, fleet.CallEvent{Seq: 1, Params: payload(3 << 20)}
	for i := range 2 * maxNumbered {
		if fits := call.addNumbered(&small); fits != (i < maxNumbered) {
			t.Fatalf("notification %d: %v", i, fits)
		}
	}
	call = new(liveCall)
	if !call.addNumbered(&large) || call.addNumbered(&large) || !call.addNumbered(&small) {
		t.Error("the bytes are not bounded")
	}

	c := &callServer{live: map[uint64]*liveCall{}, held: map[uint64]string{}, wake: make(chan struct{}, 1)}
	call = new(liveCall)
	for i := range 2 * maxNumbered {
		c.event(1, call, fleet.CallEvent{Kind: fleet.CallNotification, Seq: uint64(2*i + 1)})
		c.event(1, call, fleet.CallEvent{Kind: fleet.CallAsk, Seq: uint64(2*i + 2)})
	}
	asks, notes := 0, 0
	var before uint64
	for batch, _ := c.take(nil); len(batch) > 0; batch, _ = c.take(nil) {
		for _, e := range batch {
			if e.Seq <= before {
				t.Fatalf("message %d after %d", e.Seq, before)
			}
			if before = e.Seq; e.Kind == fleet.CallAsk {
				asks++
			} else {
				notes++
			}
		}
	}
	if asks != 2*maxNumbered || notes != maxNumbered || call.numbered != 0 || call.numberedSize != 0 {
		t.Errorf("%d requests and %d notifications, %d left", asks, notes, call.numbered)
	}
}
