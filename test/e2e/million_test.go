//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

var logOptions = api.LogOptions{}

// use has the resources that a process uses.
type use struct {
	files, threads, rss int // rss in KiB
	goroutines          int // 0 if unknown
}

func (u use) String() string {
	return fmt.Sprintf("%d files, %d threads, %d KiB, %d goroutines", u.files, u.threads, u.rss, u.goroutines)
}

func useOf(pid int) (u use, err error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return u, err
	}
	u.files = len(files)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 2:
		case f[0] == "Threads:":
			u.threads, err = strconv.Atoi(f[1])
		case f[0] == "VmRSS:":
			u.rss, err = strconv.Atoi(f[1])
		}
		if err != nil {
			return u, err
		}
	}
	return u, nil
}

// useOfController also has the controller's number of goroutines.
func (c *Cluster) useOfController() (use, error) {
	u, err := useOf(c.Controller.PID())
	if err != nil {
		return u, err
	}
	resp, err := http.Get("http://" + c.Controller.Addr.HTTP + "/metrics")
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return u, err
	}
	m := regexp.MustCompile(`(?m)^go_goroutines (\d+)$`).FindSubmatch(b)
	if m == nil {
		return u, errors.New("no go_goroutines among the metrics")
	}
	u.goroutines, err = strconv.Atoi(string(m[1]))
	return u, err
}

// The most that a million calls may leave. Memory is what the collector has not
// returned, 16 bytes a call at most. The rest is one or two of anything, for this
// test's own connections and the runtime's threads.
const (
	moreRSS        = 16 << 10 // KiB
	moreFiles      = 3
	moreThreads    = 4
	moreGoroutines = 6
	// A worker with four replicas has some sixty goroutines. If one call in a
	// thousand left one behind, there would be many more.
	workerGoroutines = 150
)

func (u use) exceeds(before use) error {
	if u.files > before.files+moreFiles || u.threads > before.threads+moreThreads ||
		u.rss > before.rss+moreRSS || u.goroutines > before.goroutines+moreGoroutines {
		return fmt.Errorf("there were %v, and are %v", before, u)
	}
	return nil
}

// After a million calls, controller and worker use as much as before. The state
// before is measured after some calls from as many callers, so that everything
// that exists once per connection is included.
func TestAMillionCallsLeaveNothing(t *testing.T) {
	calls, warm := 1_000_000, "60000"
	if testing.Short() {
		calls, warm = 50_000, "20000"
	}
	c := NewCluster(t, "process")
	c.Fleet(`servers: { reader: { command: [%q], replicas: 4, max_ongoing_requests: 32, env: { TOKEN: %s } } }`, program("testserver"), c.token)
	c.Start(1)
	worker := c.Workers["w1"]

	c.load("reader", "-calls", warm)
	var controllerBefore, workerBefore use
	var err error
	// Wait until the connections of the load are gone.
	harness.Eventually(t, patience, func() error {
		last := controllerBefore
		if controllerBefore, err = c.useOfController(); err != nil {
			return err
		}
		if workerBefore, err = useOf(worker.PID()); err != nil {
			return err
		}
		if last != controllerBefore {
			return fmt.Errorf("the controller's state changes: %v, %v", last, controllerBefore)
		}
		return nil
	})

	r := c.load("reader", "-calls", strconv.Itoa(calls))
	t.Logf("%d calls in %.0f s: %.0f/s, p50 %.1f ms, p99 %.1f ms, max %.0f ms", r.Calls, r.Seconds, float64(r.Calls)/r.Seconds, r.P50, r.P99, r.Max)
	var controllerAfter, workerAfter use
	err = harness.Poll(patience, func() error {
		if controllerAfter, err = c.useOfController(); err != nil {
			return err
		}
		if workerAfter, err = useOf(worker.PID()); err != nil {
			return err
		}
		if err := controllerAfter.exceeds(controllerBefore); err != nil {
			return fmt.Errorf("controller: %w", err)
		}
		if err := workerAfter.exceeds(workerBefore); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("controller before: %v, after: %v", controllerBefore, controllerAfter)
	t.Logf("worker before: %v, after: %v", workerBefore, workerAfter)
	if s := c.Server("reader"); s.Restarts != 0 {
		t.Errorf("replicas were restarted: %+v", s)
	}

	// A worker does not report its number of goroutines, but its stack dump shows
	// them.
	worker.Signal(syscall.SIGQUIT)
	<-worker.Exited()
	b, err := os.ReadFile(worker.Log)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`(?m)^goroutine \d+ `).FindAll(b, -1)); n < 10 || n > workerGoroutines {
		t.Errorf("the worker had %d goroutines at its end", n)
	} else {
		t.Logf("the worker had %d goroutines at its end", n)
	}
}
