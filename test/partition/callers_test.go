//go:build linux

package partition

import (
	"errors"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

const (
	// pace is how often each caller calls.
	pace = 50 * time.Millisecond
	// slack is how long after its deadline a call must be answered at the latest, on
	// a busy machine.
	slack = 5 * time.Second
)

// Callers call the demo server's echo, which is safe to repeat, one caller
// through each of some controllers.
type Callers struct{ *harness.Callers }

// Call starts callers through these controllers.
func (c *Cluster) Call(timeout time.Duration, via ...string) Callers {
	calls := harness.Calls{Client: c.HTTP, URLs: make(map[string]string), Tool: "echo", Timeout: timeout, Slack: slack, Pace: pace}
	for _, name := range via {
		calls.URLs[name] = c.URL(name) + "/demo/call"
	}
	return Callers{calls.Start(c.t)}
}

// Finish stops the callers, and fails the test unless each call got its own answer
// in time, or an error of mcpfleet if errors are allowed.
func (k Callers) Finish(t testing.TB, errorsAllowed bool) {
	t.Helper()
	k.Stop()
	r := k.Results()
	t.Logf("%d calls succeeded, others: %v", r.Answered, r.Refused)
	if r.Answered == 0 {
		t.Error("no call succeeded")
	}
	if r.Wrong > 0 {
		t.Errorf("%d calls had no answer in time, or a wrong one: %v", r.Wrong, errors.Join(r.WrongErrors...))
	}
	if !errorsAllowed && len(r.Refused) > 0 {
		t.Errorf("calls failed: %v, the first: %v", r.Refused, errors.Join(r.RefusedErrors...))
	}
}
