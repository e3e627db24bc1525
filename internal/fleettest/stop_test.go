package fleettest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// A leader that is told to stop finishes its calls, and lets another one take
// writes meanwhile.
func TestStoppingLeaderHoldsNoWriteUp(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 1, File: echoFile(1, "")})
	c.AwaitReady(1)
	leader := c.Leader()
	stopping := c.Controller(leader)
	follower := c.Controller(others(leader)[0])
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = stopping.Call(t.Context(), "echo", api.CallRequest{ToolName: "hang", ToolArgs: args(`{}`)})
	}()
	Eventually(t, func(ctx context.Context) error {
		ready, err := replicas(ctx, c, "READY")
		if err != nil {
			return err
		}
		for _, r := range ready {
			if r.Ongoing > 0 {
				return nil
			}
		}
		return errors.New("the call is not under way")
	})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.StopController(leader)
	}()
	Eventually(t, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", stopping.Addresses.HTTP)
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("it takes requests")
	})
	Eventually(t, func(ctx context.Context) error {
		_, err := follower.Scale(ctx, "echo", 2, api.WriteOptions{})
		return err
	})
	select {
	case <-stopped:
		t.Error("nothing could be written before the old leader was gone")
	default:
	}
	<-stopped
	<-answered
}

// A controller that ended between founding its cluster and filling it does so
// in its next life; one whose cluster was ever written to does not.
func TestSeededLate(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: "servers: {}\n"})
	c.AwaitReady(1)
	restart := func(file string) {
		t.Helper()
		c.StopController("c1")
		c.write(file)
		c.Client = c.StartController("c1").Client
		c.AwaitReady(1)
	}
	restart(echoFile(2, ""))
	check := func(want int) {
		t.Helper()
		Eventually(t, func(ctx context.Context) error {
			s, err := c.GetServer(ctx, "echo", api.ReadOptions{})
			if err == nil && s.Desired != want {
				err = fmt.Errorf("%d replicas are desired, want %d", s.Desired, want)
			}
			return err
		})
	}
	check(2)
	restart(echoFile(3, ""))
	check(2)
}
