package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/controller"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleettest"
	"github.com/mcpfleet/mcpfleet/internal/sink"
	"github.com/mcpfleet/mcpfleet/internal/worker"
)

// docs/METRICS.md lists exactly the metrics of a controller with a server and a
// worker, each with its type and labels.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `(mcpfleet_\\w+)` \\| (\\w+) \\| ([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		if documented[m[1]] != "" {
			t.Errorf("docs/METRICS.md has %s twice", m[1])
		}
		documented[m[1]] = m[2] + " of " + strings.NewReplacer("`", "", " ", "").Replace(m[3])
	}
	served := metricsOf(t)
	if len(served) < 20 {
		t.Fatalf("the controller serves %d metrics: %v", len(served), served)
	}
	for name, typeAndLabels := range served {
		if documented[name] != typeAndLabels {
			t.Errorf("%s is a %q, docs/METRICS.md has %q", name, typeAndLabels, documented[name])
		}
	}
	for name := range documented {
		if served[name] == "" {
			t.Errorf("docs/METRICS.md lists %s, which the controller does not have", name)
		}
	}
}

// metricsOf runs a controller with a server and a worker, and returns the type
// and labels of each of its metrics.
func metricsOf(t *testing.T) map[string]string {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	// The schedule, which always holds, makes the autoscaler decide.
	const servers = `servers: {some: {command: [x], autoscaling: {min_replicas: 0, schedules: [{cron: "* * * * *", for: 1h, min_replicas: 1}]}}, other: {command: [x], sessions: session}}`
	if err := os.WriteFile(file, []byte(servers), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var programs errgroup.Group
	defer func() {
		stop()
		if err := programs.Wait(); err != nil {
			t.Error(err)
		}
	}()
	stdout, up := io.Pipe()
	stderr := sink.New(sink.Config{Out: t.Output()})
	programs.Go(func() error {
		defer up.Close()
		return run(ctx, []string{
			"--name", "c", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--data-dir", t.TempDir(), "--shutdown-delay", "0s", "--config", file,
		}, up, stderr)
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var addr controller.Addresses
	if err := json.Unmarshal(line, &addr); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hurry := make(chan struct{})
	close(hurry)
	programs.Go(func() error {
		return worker.Run(ctx, worker.Config{
			Node: "w", DataDir: t.TempDir(), GRPC: l, Gossip: "127.0.0.1:0", Join: []string{addr.Gossip}, Hurry: hurry, Log: slog.New(slog.DiscardHandler),
			Runtimes: func(context.Context) ([]fleet.Runtime, error) { return []fleet.Runtime{agenttest.New()}, nil },
		})
	})

	found := make(map[string]string)
	fleettest.Eventually(t, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.HTTP+"/metrics", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), "mcpfleet_node_info{") || !strings.Contains(string(text), `mcpfleet_server_replicas{server="some"`) || !strings.Contains(string(text), "mcpfleet_cold_start_seconds_count{") {
			return errors.New("the worker has not joined, the server has no status yet, or no replica is READY")
		}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (mcpfleet_\w+) (\w+)\n\w+(?:\{(.*)\})? `).FindAllStringSubmatch(string(text), -1) {
			var labels []string
			for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[3], -1) {
				if l[1] != "le" {
					labels = append(labels, l[1])
				}
			}
			found[m[1]] = m[2] + " of " + strings.Join(labels, ",") // the labels are sorted
		}
		return nil
	})
	return found
}
