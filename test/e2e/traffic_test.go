//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

var (
	writeAny = api.WriteOptions{}
	readNow  = api.ReadOptions{}
)

// queued is max_queued_requests of a server. Tests write their values there, since
// it is applied in place.
func queued(s api.Server) int {
	var spec struct {
		Queued int `json:"max_queued_requests"`
	}
	_ = json.Unmarshal(s.Spec, &spec) // 0 in case of an error, which no test writes
	return spec.Queued
}

// commandValue returns the number that is the last word of a server's command.
func commandValue(s api.Server) int {
	var spec struct{ Command []string }
	_ = json.Unmarshal(s.Spec, &spec)
	if len(spec.Command) == 0 {
		return -1
	}
	n, err := strconv.Atoi(spec.Command[len(spec.Command)-1])
	if err != nil {
		return -1
	}
	return n
}

// traffic makes calls at a steady rate through any living controllers, without
// waiting for earlier ones. Every other call is not safe to repeat.
type traffic struct {
	p      *Plane
	end    func()
	calls  sync.WaitGroup
	ticker sync.WaitGroup

	mu       sync.Mutex
	good     int
	inFlight int             // failed because their controller was killed
	bad      int             // others that failed
	failed   []error         // the first of them
	counted  map[string]bool // ids of the tool count; true if acknowledged
	slowest  time.Duration
}

// request is one call.
type request struct {
	tool, args, want string
	id               string // that the tool count writes to the journal; "": another tool
}

// echoAndCount calls echo and count in turn.
func echoAndCount(n int) request {
	text := fmt.Sprintf("call-%d", n)
	r := request{tool: "echo", want: text, args: fmt.Sprintf(`{"text":%q,"id":%q,"ms":2}`, text, text)}
	if n%2 == 1 {
		r.tool, r.want, r.id = "count", "counted "+text, text
	}
	return r
}

// lastingLong calls a tool that takes 50 to 3000 ms.
func lastingLong(n int) request {
	return request{tool: "slow", want: "at last", args: fmt.Sprintf(`{"ms":%d}`, 50+n*691%2951)}
}

// steadyCalls starts this many calls a second to the server demo.
func (p *Plane) steadyCalls(perSecond int) *traffic { return p.callsLike(perSecond, echoAndCount) }

// callsLike starts this many calls a second to the server demo.
func (p *Plane) callsLike(perSecond int, of func(n int) request) *traffic {
	ctx, end := context.WithCancel(context.Background())
	k := &traffic{p: p, end: end, counted: map[string]bool{}}
	k.ticker.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			k.calls.Go(func() { k.call("demo", of(n)) })
		}
	})
	p.t.Cleanup(k.stop)
	return k
}

// stop waits for the running calls.
func (k *traffic) stop() {
	k.end()
	k.ticker.Wait()
	k.calls.Wait()
}

// awaitGood waits until this many calls have succeeded.
func (k *traffic) awaitGood(n int) {
	k.p.t.Helper()
	harness.Eventually(k.p.t, patience, func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.good < n {
			return fmt.Errorf("%s, want %d calls that succeeded", k, n)
		}
		return nil
	})
}

func (k *traffic) String() string {
	return fmt.Sprintf("%d succeeded, the slowest took %s; %d were in flight through a killed controller, %d of others failed",
		k.good, k.slowest.Round(time.Millisecond), k.inFlight, k.bad)
}

func (k *traffic) call(server string, r request) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if r.id != "" {
		k.mu.Lock()
		k.counted[r.id] = false
		k.mu.Unlock()
	}
	begin := time.Now()
	raw, err := k.p.Call(ctx, fleet.Scope(server), api.CallRequest{ToolName: r.tool, ToolArgs: []byte(r.args)})
	if err == nil {
		var got string
		if got, err = textOf(raw); err == nil && got != r.want {
			err = fmt.Errorf("wrong answer %s", raw)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slowest = max(k.slowest, time.Since(begin))
	switch {
	case err == nil:
		k.good++
		if r.id != "" {
			k.counted[r.id] = true
		}
	case errors.Is(err, errKilled):
		k.inFlight++
	default:
		k.bad++
		if len(k.failed) < 20 {
			k.failed = append(k.failed, fmt.Errorf("%s %s: %w", r.tool, r.args, err))
		}
	}
}

// check fails the test unless every counted call was executed at most once, and
// every answered one exactly once.
func (k *traffic) check(t testing.TB, journal string) {
	t.Helper()
	executed := executions(t, journal)
	for id, answered := range k.counted {
		if n := executed[id]; n > 1 || answered && n != 1 {
			t.Errorf("call %s was executed %d times, answered: %v", id, n, answered)
		}
	}
}

// executions returns how often the test server has executed each call that it wrote
// to its journal.
func executions(t testing.TB, journal string) map[string]int {
	t.Helper()
	b, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	executed := make(map[string]int)
	for line := range strings.Lines(string(b)) {
		executed[strings.TrimSpace(line)]++
	}
	return executed
}
