package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
)

// fakeAPI gives the answers that a test has set, and records the requests.
type fakeAPI struct {
	URL string

	mu      sync.Mutex
	answers map[string][]answer // by method, path and query; the last one is repeated
	asked   []string
}

type answer struct {
	status int
	body   string
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{answers: map[string][]answer{}}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	f.URL = s.URL
	return f
}

// on adds an answer to a request like "GET /api/v1/servers".
func (f *fakeAPI) on(request string, status int, body string) *fakeAPI {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[request] = append(f.answers[request], answer{status, body})
	return f
}

// ServeHTTP implements http.Handler.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	request := r.Method + " " + r.URL.RequestURI()
	note := request
	if match := r.Header.Get("If-Match"); match != "" {
		note += " If-Match: " + match
	}
	if r.Header.Get("Idempotency-Key") != "" {
		note += " with a key"
	}
	if len(body) > 0 {
		note += " " + string(body)
	}
	f.mu.Lock()
	f.asked = append(f.asked, note)
	list := f.answers[request]
	if len(list) > 1 {
		f.answers[request] = list[1:]
	}
	f.mu.Unlock()
	if len(list) == 0 {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"detail":"no answer to %s","code":"not_found"}`, request)
		return
	}
	if list[0].status == 0 { // the connection breaks
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(list[0].status)
	io.WriteString(w, list[0].body)
}

// writes returns the requests other than GET.
func (f *fakeAPI) writes() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, a := range f.asked {
		if !strings.HasPrefix(a, "GET ") {
			out = append(out, a)
		}
	}
	return strings.Join(out, "\n")
}

// ran is the outcome of one command.
type ran struct {
	out, stderr string
	err         error
	code        int
}

// execute runs a command against an address.
func execute(t *testing.T, at, in string, args ...string) ran {
	t.Helper()
	var out, stderr strings.Builder
	err := Execute(t.Context(), Config{
		Args: args, In: strings.NewReader(in), Out: &out, Err: &stderr, Version: "v1",
		Lookup: func(name string) (string, bool) {
			v, ok := map[string]string{"MCPFLEET_ADDRESS": at, "TOKEN": "s$cret", "MCPFLEET_OUTPUT": os.Getenv("MCPFLEET_OUTPUT")}[name]
			return v, ok
		},
	})
	return ran{out.String(), stderr.String(), err, ExitCode(err)}
}

// wants compares an outcome. err is a part of stderr or of the error.

func (r ran) wants(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; error: %v", r.code, code, r.err)
	}
	if r.out != out {
		t.Errorf("stdout:\n%s\nwant:\n%s", r.out, out)
	}
	said := r.stderr
	if r.err != nil {
		said += r.err.Error()
	}
	if !strings.Contains(said, err) || err == "" && said != "" {
		t.Errorf("stderr and error: %q, want %q", said, err)
	}
}
