//go:build linux

package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// pace is how often each caller calls.
	pace = 50 * time.Millisecond
	// slack is in which the answer to a call must come after its deadline, on a
	// busy machine.
	slack = 5 * time.Second
)

// Callers call the demo server's echo, which is safe to repeat, one caller
// through each of some controllers, until they are stopped.
type Callers struct {
	timeout time.Duration // that they ask for
	client  *http.Client
	over    chan struct{}
	group   sync.WaitGroup

	mu       sync.Mutex
	answered int
	late     []error        // calls without an answer in time, or with a wrong one
	failed   map[string]int // honest errors by code
	first    error          // of the honest ones
}

// Call starts callers through these controllers.
func (c *Cluster) Call(timeout time.Duration, via ...string) *Callers {
	k := &Callers{timeout: timeout, client: c.HTTP, over: make(chan struct{}), failed: map[string]int{}}
	for _, name := range via {
		k.group.Go(func() { k.caller(name, c.URL(name)+"/demo/call") })
	}
	c.t.Cleanup(k.stop)
	return k
}

func (k *Callers) stop() {
	select {
	case <-k.over:
	default:
		close(k.over)
	}
	k.group.Wait()
}

func (k *Callers) caller(name, url string) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-k.over:
			return
		case <-tick.C:
		}
		begin := time.Now()
		code, err := k.call(url, fmt.Sprintf("%s-%d", name, n))
		k.note(code, err, time.Since(begin))
	}
}

// call makes one call. code is that of an honest error.
func (k *Callers) call(url, text string) (code string, err error) {
	body := fmt.Sprintf(`{"tool_name":"echo","tool_args":{"text":%q}}`, text)
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Timeout", k.timeout.String())
	resp, err := k.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("%s: half an answer: %w", text, err)
	}
	var got struct {
		Result struct{ Content []struct{ Text string } }
		Detail string
		Code   string
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return "", fmt.Errorf("%s: answer %s %q: %w", text, resp.Status, answer, err)
	}
	switch {
	case resp.StatusCode != http.StatusOK && got.Code != "" && got.Detail != "":
		return got.Code, fmt.Errorf("%s: answer %s %s", text, resp.Status, answer)
	case resp.StatusCode != http.StatusOK, len(got.Result.Content) != 1, got.Result.Content[0].Text != text:
		return "", fmt.Errorf("%s: wrong answer %s %s", text, resp.Status, answer)
	}
	return "", nil
}

func (k *Callers) note(code string, err error, took time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if took > k.timeout+slack {
		k.late = append(k.late, fmt.Errorf("answered after %s, the deadline was %s (%w)", took, k.timeout, errors.Join(err)))
	}
	switch {
	case err == nil:
		k.answered++
	case code == "":
		k.late = append(k.late, err)
	default:
		k.failed[code]++
		if k.first == nil {
			k.first = err
		}
	}
}

// Answered is how many calls have succeeded so far.
func (k *Callers) Answered() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.answered
}

// Finish stops the callers. Each call must have had its own answer, or an
// honest error, in time. Errors are allowed or not.
func (k *Callers) Finish(t testing.TB, errorsAllowed bool) {
	t.Helper()
	k.stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	t.Logf("%d calls succeeded, others: %v", k.answered, maps.Clone(k.failed))
	if k.answered == 0 {
		t.Error("no call succeeded")
	}
	if err := errors.Join(k.late[:min(len(k.late), 10)]...); err != nil {
		t.Errorf("%d calls had no answer or a wrong one: %v", len(k.late), err)
	}
	if !errorsAllowed && k.first != nil {
		t.Errorf("calls failed: %v, the first: %v", k.failed, k.first)
	}
}
