package fleettest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// load is callers of the read-only tool echo, each with texts of its own.
type load struct {
	answered, failed atomic.Int64
	stop             context.CancelFunc
	callers          sync.WaitGroup

	mu     sync.Mutex
	errors map[string]int
}

// startLoad calls until end. A wrong answer fails the test; an error is
// counted.
func startLoad(t *testing.T, c *Cluster, callers int) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, errors: make(map[string]int)}
	t.Cleanup(l.end)
	for i := range callers {
		l.callers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				want := fmt.Sprintf("caller %d call %d", i, n)
				got, err := c.Call(context.WithoutCancel(ctx), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":%q}`, want)})
				switch e := new(api.Error); {
				case err == nil && text(t, got) == want:
					l.answered.Add(1)
				case err == nil:
					t.Errorf("got %s, want %q", got, want)
				default:
					l.failed.Add(1)
					code := err.Error()
					if errors.As(err, &e) {
						code = e.Code
					}
					l.mu.Lock()
					l.errors[code]++
					l.mu.Unlock()
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) end() {
	l.stop()
	l.callers.Wait()
}

// One client sends calls that end the process of whoever gets them. Its
// neighbours, whose tool is safe to repeat, do not notice; and a call that is
// sent again and again ends one replica each time, not two or three.
func TestOnePoisonClient(t *testing.T) {
	const calls = 8
	cases := []struct {
		name   string
		tool   string
		args   func(i int) string
		deaths int // at most
	}{
		{"the same call, safe to repeat", "poison", func(int) string { return `{"code":3}` }, calls + 1},
		{"different calls, safe to repeat", "poison", func(i int) string { return fmt.Sprintf(`{"code":3,"text":"%d"}`, i) }, 2 * calls},
		{"not safe to repeat", "crash", func(int) string { return `{"code":3}` }, calls},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := Start(t, Options{Workers: 3, File: echoFile(6, "")})
			c.AwaitReady(3)
			l := startLoad(t, c, 16)
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for i := range calls {
				_, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: tc.tool, ToolArgs: args("%s", tc.args(i))})
				if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusBadGateway || e.Code != api.CodeReplicaLost {
					t.Errorf("poison: %v, want replica_lost", err)
				}
				<-tick.C
			}
			l.end()
			answered, failed := l.answered.Load(), l.failed.Load()
			t.Logf("neighbours: %d answered, %d failed: %v", answered, failed, l.errors)
			if failed*100 >= answered+failed {
				t.Errorf("%d of %d calls of neighbours failed, want less than 1 %%: %v", failed, answered+failed, l.errors)
			}
			restarts := func(ctx context.Context) (int, error) {
				servers, err := c.Servers(ctx)
				if err != nil {
					return 0, err
				}
				return servers[0].Restarts, nil
			}
			Eventually(t, func(ctx context.Context) error { // the last death may not be known yet
				n, err := restarts(ctx)
				if err == nil && n < calls {
					err = fmt.Errorf("%d replicas were replaced for %d calls", n, calls)
				}
				return err
			})
			c.AwaitReady(3)
			if n, err := restarts(t.Context()); err != nil || n > tc.deaths {
				t.Errorf("%d replicas were replaced for %d calls, want at most %d (%v)", n, calls, tc.deaths, err)
			}
		})
	}
}

// Every tenth call ends its replica. The others wait for those that live or
// start again, and are answered: no back-off empties the server.
func TestEveryTenthCallCrashes(t *testing.T) {
	for _, tool := range []string{"crash", "poison"} {
		t.Run(tool, func(t *testing.T) {
			c := Start(t, Options{Workers: 3, File: echoFile(3, "")})
			c.AwaitReady(3)
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			var callers sync.WaitGroup
			var mu sync.Mutex
			codes := make(map[string]int) // of calls that do not crash
			for i := range 8 {
				callers.Go(func() {
					for n := 1; ctx.Err() == nil; n++ {
						name, end := "echo", n%10 == 0
						if end {
							name = tool
						}
						_, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: name, ToolArgs: args(`{"code":3,"text":"%d-%d"}`, i, n)})
						code := "ok"
						if e := new(api.Error); errors.As(err, &e) {
							code = e.Code
						} else if err != nil {
							code = err.Error()
						}
						mu.Lock()
						if end {
							code = "crash: " + code
						}
						codes[code]++
						mu.Unlock()
					}
				})
			}
			callers.Wait()
			t.Log(codes)
			failed := 0
			for code, n := range codes {
				if code != "ok" && code != "crash: "+api.CodeReplicaLost {
					failed += n
				}
			}
			if codes["ok"] < 50 || failed*100 > codes["ok"] {
				t.Errorf("%v; want other calls to be answered", codes)
			}
			c.AwaitReady(3)
		})
	}
}
