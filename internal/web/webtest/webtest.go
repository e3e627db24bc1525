// Package webtest helps to test fronts that stand on package web.
package webtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// WantError checks that an answer has the one form of all errors, and returns
// the members of its body.
func WantError(t *testing.T, status int, header http.Header, body io.Reader, wantStatus int, wantCode, wantDetail string) map[string]json.RawMessage {
	t.Helper()
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]json.RawMessage
	var e api.Error
	if json.Unmarshal(raw, &all) != nil || json.Unmarshal(raw, &e) != nil {
		t.Fatalf("status %d, body %q is not a JSON object", status, raw)
	}
	if status != wantStatus || e.Code != wantCode {
		t.Errorf("got %d %s (%s), want %d %s", status, e.Code, e.Detail, wantStatus, wantCode)
	}
	if !strings.Contains(e.Detail, wantDetail) || e.Detail == "" {
		t.Errorf("detail %q, want it to contain %q", e.Detail, wantDetail)
	}
	if e.RequestID == "" || e.RequestID != header.Get("X-Request-ID") {
		t.Errorf("request_id %q, header %q; want the same", e.RequestID, header.Get("X-Request-ID"))
	}
	if got := header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if (status == http.StatusServiceUnavailable) != (header.Get("Retry-After") != "") {
		t.Errorf("status %d with Retry-After %q", status, header.Get("Retry-After"))
	}
	return all
}
