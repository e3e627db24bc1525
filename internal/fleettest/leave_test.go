package fleettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// balancer sends requests to controllers whose /readyz answers 200, over kept
// connections, and repeats nothing.
type balancer struct {
	http  *http.Client
	mu    sync.Mutex
	ready map[string]time.Time // by host:port: when it was last asked and was ready
	next  int
}

// leaveDelay is how long controllers serve on after they are told to stop.
const leaveDelay = 2 * time.Second

// watch asks the controllers until ctx ends, as a load balancer does.
func (b *balancer) watch(ctx context.Context, addresses []string) {
	for ctx.Err() == nil {
		for _, at := range addresses {
			asked := time.Now()
			status, _ := readyz(ctx, at)
			b.mu.Lock()
			if delete(b.ready, at); status == http.StatusOK {
				b.ready[at] = asked
			}
			b.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fresh returns the controllers that were ready a moment ago, so that they take requests
// for a while. It needs b.mu held.
func (b *balancer) fresh() (ready []string) {
	for _, at := range slices.Sorted(maps.Keys(b.ready)) {
		if time.Since(b.ready[at]) < leaveDelay/2 {
			ready = append(ready, at)
		}
	}
	return ready
}

// pick returns the address of the next ready controller. On a starved machine
// no answer may have come in time: then it waits for one. It returns "" when ctx
// ends.
func (b *balancer) pick(ctx context.Context) string {
	tick := time.NewTicker(10 * time.Millisecond) // and a pause: callers must not starve the controllers
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
		b.mu.Lock()
		if ready := b.fresh(); len(ready) > 0 {
			b.next++
			at := ready[b.next%len(ready)]
			b.mu.Unlock()
			return at
		}
		b.mu.Unlock()
	}
}

// send returns an error unless the answer is a success.
func (b *balancer) send(ctx context.Context, method, at, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+at+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s at %s: %s %s", method, path, at, resp.Status, answer)
	}
	return err
}

func readyz(ctx context.Context, at string) (status int, reason string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/readyz", nil)
	if err != nil {
		return 0, ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	var r api.Ready
	_ = json.NewDecoder(resp.Body).Decode(&r)
	return resp.StatusCode, r.Reason
}

// Controllers that are stopped one after the other, the leader first, fail no
// call and no write of clients that go by /readyz.
func TestStoppingControllerFailsNoRequest(t *testing.T) {
	c := Start(t, Options{Controllers: 3, Workers: 2, File: echoFile(4, ""), ShutdownDelay: leaveDelay, Patient: true})
	c.AwaitReady(2)
	var addresses []string
	for _, name := range strings.Fields(threeNames) {
		addresses = append(addresses, c.Controller(fleet.NodeID(name)).Addresses.HTTP)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	b := &balancer{http: &http.Client{Transport: transport}, ready: map[string]time.Time{}}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { b.watch(ctx, addresses) })
	Eventually(t, func(context.Context) error {
		if b.mu.Lock(); len(b.fresh()) == 3 {
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		return errors.New("not all are ready")
	})

	var calls, writes atomic.Int64
	for i := range 8 {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				body := fmt.Sprintf(`{"tool_name":"count","tool_args":{"key":"%d-%d"}}`, i, n)
				if err := b.send(ctx, http.MethodPost, b.pick(ctx), "/call", body); err != nil && ctx.Err() == nil {
					t.Errorf("after %d calls: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
			}
		})
	}
	running.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			spec := fmt.Sprintf(`{"command":["echo"],"replicas":4,"drain_timeout":"5s","call_timeout":"%ds"}`, 30+n%20)
			err := b.send(ctx, http.MethodPut, b.pick(ctx), "/api/v1/servers/echo", spec)
			if err != nil && ctx.Err() == nil {
				t.Errorf("after %d writes: %v", writes.Load(), err)
				return
			}
			writes.Add(1)
		}
	})

	leader := c.Leader()
	for _, name := range append([]fleet.NodeID{leader}, others(leader)[0]) {
		before := calls.Load()
		at := c.Controller(name).Addresses.HTTP
		slow := make(chan error, 1) // it is under way when its controller takes no more requests
		go func() {
			body := fmt.Sprintf(`{"tool_name":"slow","tool_args":{"ms":%d}}`, (leaveDelay + 2*time.Second).Milliseconds())
			slow <- b.send(ctx, http.MethodPost, at, "/call", body)
		}()
		stopped := make(chan struct{})
		begun := time.Now()
		go func() {
			defer close(stopped)
			c.StopController(name)
		}()
		Eventually(t, func(ctx context.Context) error {
			if status, reason := readyz(ctx, at); status != http.StatusServiceUnavailable || reason != "stopping" {
				return fmt.Errorf("/readyz: %d %q", status, reason)
			}
			return nil
		})
		if time.Since(begun) < leaveDelay/2 { // a busy machine may have been too slow to see it
			resp, err := http.Post("http://"+at+"/call", "application/json", strings.NewReader(`{"tool_name":"count","tool_args":{"key":"late"}}`))
			if err != nil {
				t.Fatalf("a call while it leaves: %v", err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || !resp.Close {
				t.Errorf("a call while it leaves: %s, closes: %v", resp.Status, resp.Close)
			}
		}
		if err := <-slow; err != nil {
			t.Errorf("the call under way: %v", err)
		}
		<-stopped
		if took := time.Since(begun); took < leaveDelay {
			t.Errorf("%s stopped after %v, before its delay was over", name, took)
		}
		c.StartController(name)
		Eventually(t, func(ctx context.Context) error {
			if status, reason := readyz(ctx, at); status != http.StatusOK || calls.Load() < before+100 {
				return fmt.Errorf("/readyz: %d %q; %d calls", status, reason, calls.Load()-before)
			}
			return nil
		})
	}
	cancel()
	running.Wait()
	t.Logf("%d calls, %d writes", calls.Load(), writes.Load())
	if writes.Load() == 0 {
		t.Error("nothing was written")
	}
}
