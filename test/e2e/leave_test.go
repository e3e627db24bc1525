package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// After the first signal a controller keeps serving, unready, for its delay. A
// second one ends it at once.
func TestControllerServesOnUntilTheSecondSignal(t *testing.T) {
	dir := t.TempDir()
	c := start(t, "controller", filepath.Join(dir, "log"), "--name", "leaves", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0",
		"--data-dir", filepath.Join(dir, "data"), "--shutdown-delay", "5m")
	defer c.Kill9()
	get := func(path string) (int, []byte, error) {
		resp, err := http.Get("http://" + c.Addr.HTTP + path)
		if err != nil {
			return 0, nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, body, err
	}
	want := func(status int, reason string) {
		t.Helper()
		harness.Eventually(t, patience, func() error {
			got, body, err := get("/readyz")
			var ready api.Ready
			if err != nil || json.Unmarshal(body, &ready) != nil || got != status || ready.Reason != reason {
				return fmt.Errorf("/readyz: %d %s, %s; want %d %q", got, body, fmt.Sprint(err), status, reason)
			}
			return nil
		})
	}
	want(http.StatusOK, "")
	c.Signal(syscall.SIGTERM)
	want(http.StatusServiceUnavailable, "stopping")
	for _, path := range []string{"/healthz", "/tools", "/api/v1/servers"} {
		if status, body, err := get(path); err != nil || status != http.StatusOK {
			t.Errorf("%s while it leaves: %d %s, %v", path, status, body, err)
		}
	}
	c.Signal(syscall.SIGINT) // another signal, since the same one would count as a copy so soon
	select {
	case <-c.Exited():
	case <-time.After(patience):
		t.Fatal("it goes on after a second signal")
	}
}
