package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Callers distinguish right answers, errors of mcpfleet and everything else.
func TestCallers(t *testing.T) {
	content := func(text string) string { return fmt.Sprintf(`{"result":{"content":[{"text":%q}]}}`, text) }
	tests := []struct {
		name    string
		status  int
		answer  func(text string) string
		slack   time.Duration
		right   bool
		refused string // code
	}{
		{name: "right", status: 200, answer: func(s string) string { return content("said " + s) }, right: true},
		{name: "too late", status: 200, slack: -time.Hour, answer: func(s string) string { return content("said " + s) }},
		{name: "the answer of another call", status: 200, answer: func(s string) string { return content("said x" + s) }},
		{name: "without the prefix", status: 200, answer: content},
		{name: "two texts", status: 200, answer: func(s string) string {
			return fmt.Sprintf(`{"result":{"content":[{"text":%q},{"text":""}]}}`, "said "+s)
		}},
		{name: "an error of the tool", status: 200, answer: func(s string) string {
			return fmt.Sprintf(`{"result":{"isError":true,"content":[{"text":%q}]}}`, "said "+s)
		}},
		{name: "no JSON", status: 200, answer: func(string) string { return "said" }},
		{name: "refused", status: 503, answer: func(string) string { return `{"detail":"busy","code":"overloaded"}` }, refused: "overloaded"},
		{name: "refused without a code", status: 503, answer: func(string) string { return `{"detail":"busy"}` }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			called := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var body struct {
					Args struct{ Text string } `json:"tool_args"`
				}
				if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
					t.Error(err)
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.answer(body.Args.Text))
				select {
				case called <- struct{}{}:
				case <-r.Context().Done():
				}
			}))
			defer server.Close()
			k := Calls{
				Client: server.Client(), URLs: map[string]string{"a": server.URL}, Tool: "say",
				Prefix: "said ", Timeout: time.Minute, Slack: tt.slack,
			}.Start(t)
			<-called
			go func() {
				for range called {
				}
			}()
			k.Stop()
			close(called)
			r := k.Results()
			want := map[string]int{}
			if tt.refused != "" {
				want[tt.refused] = r.Calls
			}
			if r.Calls == 0 || !maps.Equal(r.Refused, want) {
				t.Errorf("%d calls, refused: %v, want %v", r.Calls, r.Refused, want)
			}
			if (r.Answered == r.Calls) != tt.right || (r.Wrong == r.Calls) != (!tt.right && tt.refused == "") {
				t.Errorf("of %d calls %d were answered and %d wrong: %v", r.Calls, r.Answered, r.Wrong, r.WrongErrors)
			}
			if n := len(r.RefusedErrors); (n > 0) != (tt.refused != "") || n > keptErrors || len(r.WrongErrors) > keptErrors {
				t.Errorf("errors: %v, %v", r.RefusedErrors, r.WrongErrors)
			}
		})
	}
}
