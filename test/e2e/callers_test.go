//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

const (
	callTimeout = 5 * time.Second // the default of callers
	callSlack   = time.Second     // how long after its deadline a call must be answered at the latest
)

// callers call one server. Each caller sends its next call as soon as its last
// one is answered.
type callers struct{ *harness.Callers }

// call starts callers. The tool count gets ids, and other tools get texts.
func call(t testing.TB, c *Cluster, number int, server, tool string) callers {
	return callFor(t, c, number, server, tool, callTimeout)
}

// callFor starts callers with this timeout.
func callFor(t testing.TB, c *Cluster, number int, server, tool string, timeout time.Duration) callers {
	calls := harness.Calls{
		Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: number}},
		URLs:   make(map[string]string), Tool: tool, Timeout: timeout, Slack: callSlack,
		Args: func(text string) string {
			return fmt.Sprintf(`{"text":%q,"message":%q,"id":%q,"ms":5}`, text, text, text)
		},
	}
	for i := range number {
		calls.URLs[fmt.Sprintf("%s-%s-%d", server, tool, i)] = "http://" + c.Controller.Addr.HTTP + "/" + server + "/call"
	}
	switch {
	case tool == "count":
		calls.Prefix = "counted "
	case server == "everything": // the npm server
		calls.Prefix = "Echo: "
	}
	return callers{calls.Start(t)}
}

// result returns the number of calls, and the failures of some. For the tool
// count, an error of mcpfleet is not a failure.
func (k callers) result() (int, error) {
	r := k.Results()
	failed := r.WrongErrors
	if k.Tool != "count" {
		failed = append(failed, r.RefusedErrors...)
	}
	return r.Calls, errors.Join(failed...)
}
