package fleettest

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// A call that a server could not digest is refused, and the answer names the
// key of the fleet file that says so.
func TestRequestTooLarge(t *testing.T) {
	c := Start(t, Options{Workers: 1, File: echoFile(1, "")})
	c.AwaitReady(1)
	call := func(bytes int) error {
		_, err := c.Call(t.Context(), "echo", api.CallRequest{ToolName: "echo", ToolArgs: args(`{"text":%q}`, strings.Repeat("x", bytes))})
		return err
	}
	if err := call(1 << 20); err != nil {
		t.Error(err)
	}
	err := call(10 << 20)
	if e := new(api.Error); !errors.As(err, &e) || e.Status != http.StatusRequestEntityTooLarge || e.Code != api.CodeTooLarge || !strings.Contains(e.Detail, "max_request_bytes") {
		t.Errorf("10 MiB: %v, want 413 that names max_request_bytes", err)
	}
	if err := call(1); err != nil {
		t.Error(err)
	}
}
