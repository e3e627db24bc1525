//go:build linux

package connect

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

const controllers = 2

// testFleet is two controllers and a worker, with the demo server.
type testFleet struct {
	*api.Client
	addresses []string // of the controllers
	program   string   // mcpfleet
}

func startFleet(t *testing.T) *testFleet {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	if err := harness.Build(bin, "./cmd/controller", "./cmd/worker", "./cmd/mcpfleet", "./cmd/demo-server"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "fleet.json")
	spec, err := json.Marshal(map[string]any{"servers": map[string]any{
		"demo": map[string]any{"command": filepath.Join(bin, "demo-server")},
	}})
	if err == nil {
		err = os.WriteFile(file, spec, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &testFleet{program: filepath.Join(bin, "mcpfleet")}
	var running []*harness.Process
	t.Cleanup(func() {
		harness.StopAll(running...)
		if t.Failed() {
			harness.ShowLogs(t, dir, 50)
		}
	})
	start := func(program, name string, args ...string) *harness.Process {
		args = append(args, "--name", name, "--data-dir", filepath.Join(dir, name))
		for _, p := range running {
			args = append(args, "--join", p.Addr.Gossip)
		}
		p := harness.Command(t, name, filepath.Join(bin, program), filepath.Join(dir, name+".log"), args...)
		p.Start()
		running = append(running, p)
		return p
	}
	for i := range controllers {
		p := start("controller", fmt.Sprintf("c%d", i+1), "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--raft", "127.0.0.1:0",
			"--bootstrap-expect", fmt.Sprint(controllers), "--shutdown-delay", "0s", "--config", file)
		f.addresses = append(f.addresses, p.Addr.HTTP)
	}
	start("worker", "w1", "--runtime", "process")
	for _, address := range f.addresses {
		client, err := api.NewClient(address, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.Client = client
		harness.Eventually(t, harness.Patience, func() error {
			ready, err := client.Ready(t.Context())
			if err == nil && !ready.Ready {
				err = fmt.Errorf("not ready: %v", ready.Servers)
			}
			if err == nil {
				_, err = client.Tools(t.Context(), "demo")
			}
			return err
		})
	}
	return f
}
