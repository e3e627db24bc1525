//go:build linux

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// startFleet starts a controller and a worker that runs plain processes, until
// the end of the test.
func startFleet(t *testing.T) *api.Client {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	if err := harness.Build(bin, "./cmd/controller", "./cmd/worker"); err != nil {
		t.Fatal(err)
	}
	start := func(name string, args ...string) *harness.Process {
		t.Helper()
		args = append(args, "--data-dir", filepath.Join(dir, name))
		p := harness.Command(t, name, filepath.Join(bin, name), filepath.Join(dir, name+".log"), args...)
		p.Start()
		return p
	}
	var worker *harness.Process
	controller := start("controller", "--name", "c", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--shutdown-delay", "0s")
	t.Cleanup(func() {
		controller.Stop() // first, so that the worker does not wait for it
		if worker != nil {
			worker.Stop()
		}
		if t.Failed() {
			harness.ShowLogs(t, dir, 50)
		}
	})
	worker = start("worker", "--name", "w", "--runtime", "process", "--join", controller.Addr.Gossip)
	client, err := api.NewClient(controller.Addr.HTTP, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// command returns the command with which a user's client starts a package's
// program.
func (s *server) command(packages, dir string) ([]string, error) {
	root := filepath.Join(packages, "node_modules", s.Package)
	b, err := os.ReadFile(filepath.Join(root, "package.json"))
	if err != nil {
		return nil, err
	}
	var p struct{ Bin json.RawMessage }
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("package.json of %s: %w", s.Package, err)
	}
	var only string
	var named map[string]string
	switch {
	case json.Unmarshal(p.Bin, &only) == nil:
	case json.Unmarshal(p.Bin, &named) == nil && s.Bin != "":
		only = named[s.Bin]
	case len(named) == 1:
		for _, only = range named {
		}
	}
	if only == "" {
		return nil, fmt.Errorf("%s has no program %q: %s", s.Package, s.Bin, p.Bin)
	}
	return append([]string{"node", filepath.Join(root, only)}, inDir(s.Args, dir)...), nil
}

// getJSON decodes an answer completely. The client of package api would drop unknown
// members.
func getJSON(ctx context.Context, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s", resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
