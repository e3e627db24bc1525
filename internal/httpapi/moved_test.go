package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
)

// A leader that was stopped by a signal keeps its connections and answers nothing.
// Once another controller leads, reads are repeated there, and writes end with an
// unknown outcome.
func TestLeaderStopsAnswering(t *testing.T) {
	const moves = 1200 * time.Millisecond
	for _, tc := range []struct {
		name, method, path, body string
		answers                  time.Duration // of the old leader; 0: never
		moves                    bool
		status                   int
		code                     string
		took                     time.Duration
	}{
		{"read", "GET", "/api/v1/servers", "", 0, true, 200, "", moves},
		{"dry run", "PUT", "/api/v1/servers/every?dry_run=1", everything, 0, true, 200, "", moves},
		{"write", "PUT", "/api/v1/servers/every", everything, 0, true, 503, api.CodeOutcomeUnknown, moves + movedGrace},
		{"write that the old leader answers", "PUT", "/api/v1/servers/every", everything, moves + movedGrace/2, true, 201, "", moves + movedGrace/2},
		{"transfer that the old leader answers", "POST", "/api/v1/controllers/ctl3/transfer", "", moves + time.Second, true, 200, "", moves + time.Second},
		{"write, and nobody else leads", "PUT", "/api/v1/servers/every", everything, 0, false, 503, api.CodeOutcomeUnknown, maxWriteTime},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				old, next := newFixture(), newFixture()
				f := newFixture(func(c *config) { c.Self = "ctl2" })
				f.desired.become(follows("old"))
				f.api.transport = roundTrip(func(r *http.Request) (*http.Response, error) {
					to := next
					if r.URL.Host == "old" {
						to = old
						if tc.answers == 0 {
							<-r.Context().Done()
							return nil, r.Context().Err()
						}
						sleep(r.Context(), tc.answers)
						if err := r.Context().Err(); err != nil {
							return nil, err
						}
					}
					w := httptest.NewRecorder()
					to.handler.ServeHTTP(w, r)
					f.desired.learn(to.desired.State())
					return w.Result(), nil
				})
				if tc.moves {
					time.AfterFunc(moves, func() { f.desired.become(follows("next")) })
				}
				start := time.Now()
				w := f.do(tc.method, tc.path, tc.body)
				if took := time.Since(start); took < tc.took || took > tc.took+leaderPoll {
					t.Errorf("took %s, want %s", took, tc.took)
				}
				if tc.status >= 400 {
					wantError(t, w.Code, w.Header(), w.Body, tc.status, tc.code, "")
				} else if w.Code != tc.status {
					t.Errorf("got %d %s, want %d", w.Code, w.Body, tc.status)
				}
			})
		})
	}
}

// A refusal names the problem of this controller, which may be its cause.
func TestRefusalsNameTheProblem(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture()
		f.desired.problem = "the disk is full"
		f.desired.become(nobody)
		w := f.do("PUT", "/api/v1/servers/every", everything)
		wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, "the disk is full")
	})
}

// A controller that may lack recent writes does not call a server unknown.
func TestStaleControllerDeniesNothing(t *testing.T) {
	f := newFixture()
	w := f.do("GET", "/api/v1/servers/none?stale=1", "")
	wantError(t, w.Code, w.Header(), w.Body, 404, api.CodeUnknownServer, "none")
	f.desired.stale = "it lags"
	for _, path := range []string{"/api/v1/servers/none?stale=1", "/api/v1/servers/none/revisions?stale=1"} {
		w = f.do("GET", path, "")
		wantError(t, w.Code, w.Header(), w.Body, 503, api.CodeNoLeader, "it lags")
	}
}
