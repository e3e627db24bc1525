//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// callers call a tool, each one call after the other and each with a text of
// its own, until they are stopped.
type callers struct {
	url, tool string
	timeout   time.Duration // that they ask for
	client    *http.Client
	cancel    context.CancelFunc
	over      chan struct{}
	group     sync.WaitGroup

	mu      sync.Mutex
	calls   int
	failed  []error
	slowest time.Duration
	codes   map[string]int // of errors
}

const (
	callTimeout = 5 * time.Second // of callers for whom the test says nothing else
	callSlack   = time.Second     // in which the answer to a call must come after its deadline
)

// call starts so many callers. The tool count gets ids, others texts.
func call(t testing.TB, c *Cluster, number int, server, tool string) *callers {
	return callFor(t, c, number, server, tool, callTimeout)
}

// callFor starts callers with this patience.
func callFor(t testing.TB, c *Cluster, number int, server, tool string, timeout time.Duration) *callers {
	ctx, cancel := context.WithCancel(context.Background())
	k := &callers{
		url: "http://" + c.Controller.Addr.HTTP + "/" + server + "/call", tool: tool, timeout: timeout, cancel: cancel,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: number}},
		over:   make(chan struct{}), codes: map[string]int{},
	}
	for i := range number {
		k.group.Go(func() { k.caller(ctx, fmt.Sprintf("%s-%s-%d", server, tool, i)) })
	}
	t.Cleanup(k.stop)
	return k
}

// stop lets every caller finish its call.
func (k *callers) stop() {
	select {
	case <-k.over:
	default:
		close(k.over)
	}
	k.group.Wait()
	k.cancel()
	k.client.CloseIdleConnections()
}

// result returns how many calls there were, and what went wrong with some.
func (k *callers) result() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.calls, errors.Join(k.failed...)
}

func (k *callers) caller(ctx context.Context, name string) {
	for n := 0; ; n++ {
		select {
		case <-k.over:
			return
		default:
		}
		begin := time.Now()
		code, err := k.call(ctx, fmt.Sprintf("%s-%d", name, n))
		k.note(code, err, time.Since(begin))
	}
}

func (k *callers) note(code string, err error, took time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	k.slowest = max(k.slowest, took)
	if took > k.timeout+callSlack {
		err = errors.Join(err, fmt.Errorf("a call was answered after %s, its deadline was %s", took, k.timeout))
	}
	if code != "" {
		k.codes[code]++
	}
	if err != nil && len(k.failed) < 10 {
		k.failed = append(k.failed, err)
	}
}

// call makes one call. For the tool count an honest error is no failure, but
// one of the codes that are counted.
func (k *callers) call(ctx context.Context, text string) (code string, err error) {
	body := fmt.Sprintf(`{"tool_name":%q,"tool_args":{"text":%q,"message":%q,"id":%q,"ms":5}}`, k.tool, text, text, text)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.url, strings.NewReader(body))
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
		Result json.RawMessage
		Detail string
		Code   string
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return "", fmt.Errorf("%s: answer %s %q: %w", text, resp.Status, answer, err)
	}
	want := text
	if k.tool == "count" {
		want = "counted " + text
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s: answer %s %s", text, resp.Status, answer)
		if k.tool == "count" && got.Code != "" && got.Detail != "" {
			err = nil
		}
		return got.Code, err
	}
	// The npm server puts a word before it.
	back, err := textOf(got.Result)
	if err == nil && strings.TrimPrefix(back, "Echo: ") != want {
		err = fmt.Errorf("wrong answer %s", answer)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", text, err)
	}
	return "", err
}
