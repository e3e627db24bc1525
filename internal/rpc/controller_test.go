package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// queues is a Controller.
type queues func(ctx context.Context, o fleet.Order, send func(map[fleet.ServerName]int) error) error

func (f queues) WatchQueues(ctx context.Context, o fleet.Order, send func(map[fleet.ServerName]int) error) error {
	return f(ctx, o, send)
}

func (f queues) WatchSessions(ctx context.Context, _ fleet.Order, send func([]fleet.SessionRecord) error) error {
	return errors.New("not here")
}

func (f queues) TellSessions(context.Context, fleet.Order, []fleet.SessionRecord) error {
	return errors.New("not here")
}

func (f queues) GiveSession(context.Context, fleet.Order, fleet.SessionRequest) (fleet.SessionGiven, error) {
	return fleet.SessionGiven{}, fleet.ErrNotLeader
}

// serveController returns a client of a served controller. stop ends its server
// and waits for that.
func serveController(t *testing.T, c Controller, cfg ClientConfig) (client *ControllerClient, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ServeController(ctx, l, c) }()
	if client, err = DialController(l.Addr().String(), cfg); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := get(t, ended); err != nil {
			t.Errorf("ServeController: %v", err)
		}
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		stop()
	})
	return client, stop
}

func TestWatchQueues(t *testing.T) {
	order := fleet.Order{Cluster: "c", Incarnation: 2, Epoch: 7}
	sent := []map[fleet.ServerName]int{{"a": 3, "b": 128}, {"a": 0}, {}}
	handlerEnded := make(chan struct{})
	client, stop := serveController(t, queues(func(ctx context.Context, o fleet.Order, send func(map[fleet.ServerName]int) error) error {
		defer close(handlerEnded)
		if o != order {
			return fmt.Errorf("got order %v", o)
		}
		for _, q := range sent {
			if err := send(q); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return ctx.Err()
	}), ClientConfig{})
	got := make(chan map[fleet.ServerName]int, len(sent))
	ended := make(chan error, 1)
	go func() {
		ended <- client.WatchQueues(t.Context(), order, func(q map[fleet.ServerName]int) { got <- q })
	}()
	for _, want := range sent {
		if q := get(t, got); !reflect.DeepEqual(q, want) {
			t.Errorf("got %v, want %v", q, want)
		}
	}
	stop()
	get(t, handlerEnded)
	if err := get(t, ended); err == nil {
		t.Error("the watch of a server that stops ended without an error")
	}
}

// Refusals cross the wire as fleet's sentinels.
func TestWatchQueuesOfAnotherCluster(t *testing.T) {
	client, _ := serveController(t, queues(func(context.Context, fleet.Order, func(map[fleet.ServerName]int) error) error {
		return fmt.Errorf("%w: this controller serves d", fleet.ErrForeignCluster)
	}), ClientConfig{})
	err := client.WatchQueues(t.Context(), fleet.Order{Cluster: "c"}, func(map[fleet.ServerName]int) {})
	if !errors.Is(err, fleet.ErrForeignCluster) || !strings.Contains(err.Error(), "serves d") {
		t.Errorf("got %v", err)
	}
}

func TestWatchQueuesThatFallSilent(t *testing.T) {
	client, _ := serveController(t, queues(func(ctx context.Context, _ fleet.Order, send func(map[fleet.ServerName]int) error) error {
		err := send(nil)
		<-ctx.Done()
		return err
	}), ClientConfig{Silence: 50 * time.Millisecond})
	came := false
	err := client.WatchQueues(t.Context(), fleet.Order{}, func(map[fleet.ServerName]int) { came = true })
	if err == nil || !came || !strings.Contains(err.Error(), "nothing heard for ") {
		t.Errorf("got %v after the first message: %v", err, came)
	}
}
