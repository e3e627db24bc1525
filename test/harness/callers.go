package harness

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

// Calls has the settings of Callers, which call a tool that returns its text.
type Calls struct {
	Client  *http.Client
	URLs    map[string]string // the URLs of /call, one for each caller; the texts contain the callers' names
	Tool    string
	Args    func(text string) string // returns the tool's arguments; nil for {"text": text}
	Prefix  string                   // prefix of the text in the answers
	Timeout time.Duration            // timeout that the callers request
	Slack   time.Duration            // how long after its timeout a call may be answered
	Pace    time.Duration            // from the start of a caller's call to the start of its next; 0 for no pause
}

// Callers call a tool until they are stopped. Each makes one call after the other,
// with a new text each time.
type Callers struct {
	Calls
	over  chan struct{}
	group sync.WaitGroup

	mu      sync.Mutex
	results Results
}

// Results has the results of the calls so far.
type Results struct {
	Calls    int
	Answered int            // with the expected answer
	Wrong    int            // not answered, answered too late, or with another text
	Refused  map[string]int // with an error of mcpfleet, by code
	Slowest  time.Duration

	// The first errors of each kind.
	WrongErrors, RefusedErrors []error
}

// keptErrors is how many errors of each kind Results keeps.
const keptErrors = 10

// Start starts callers. They stop at the end of the test, or earlier.
func (c Calls) Start(t testing.TB) *Callers {
	if c.Args == nil {
		c.Args = func(text string) string { return fmt.Sprintf(`{"text":%q}`, text) }
	}
	k := &Callers{Calls: c, over: make(chan struct{}), results: Results{Refused: make(map[string]int)}}
	for name, url := range c.URLs {
		k.group.Go(func() { k.run(name, url) })
	}
	t.Cleanup(k.Stop)
	return k
}

// Stop lets every caller finish its call.
func (k *Callers) Stop() {
	select {
	case <-k.over:
	default:
		close(k.over)
	}
	k.group.Wait()
	k.Client.CloseIdleConnections()
}

// Results returns the results of the calls so far.
func (k *Callers) Results() Results {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.results
	r.Refused = maps.Clone(r.Refused)
	return r
}

func (k *Callers) run(name, url string) {
	for n := 0; ; n++ {
		select {
		case <-k.over:
			return
		default:
		}
		begin := time.Now()
		code, err := k.call(url, fmt.Sprintf("%s-%d", name, n))
		k.record(code, err, time.Since(begin))
		if pause := k.Pace - time.Since(begin); pause > 0 {
			select {
			case <-k.over:
				return
			case <-time.After(pause):
			}
		}
	}
}

func (k *Callers) record(code string, err error, took time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &k.results
	r.Calls++
	r.Slowest = max(r.Slowest, took)
	late := took > k.Timeout+k.Slack
	if late {
		err = errors.Join(err, fmt.Errorf("a call was answered after %s, its timeout was %s", took, k.Timeout))
	}
	if code != "" {
		r.Refused[code]++
	}
	switch {
	case err == nil:
		r.Answered++
	case late || code == "":
		r.Wrong++
		r.WrongErrors = keep(r.WrongErrors, err)
	default:
		r.RefusedErrors = keep(r.RefusedErrors, err)
	}
}

func keep(list []error, err error) []error {
	if len(list) == keptErrors {
		return list
	}
	return append(list, err)
}

// call makes one call. code is the code of an error of mcpfleet, which also has a
// detail.
func (k *Callers) call(url, text string) (code string, err error) {
	body := fmt.Sprintf(`{"tool_name":%q,"tool_args":%s}`, k.Tool, k.Args(text))
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Timeout", k.Timeout.String())
	resp, err := k.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("%s: half an answer: %w", text, err)
	}
	var got struct {
		Result struct {
			Content []struct{ Text string }
			IsError bool
		}
		Detail string
		Code   string
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return "", fmt.Errorf("%s: answer %s %q: %w", text, resp.Status, answer, err)
	}
	switch r := got.Result; {
	case resp.StatusCode != http.StatusOK && got.Code != "" && got.Detail != "":
		return got.Code, fmt.Errorf("%s: answer %s %s", text, resp.Status, answer)
	case resp.StatusCode != http.StatusOK, r.IsError, len(r.Content) != 1, r.Content[0].Text != k.Prefix+text:
		return "", fmt.Errorf("%s: wrong answer %s %s", text, resp.Status, answer)
	}
	return "", nil
}
