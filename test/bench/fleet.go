package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/rpc"
)

// image is an image with this program as its only file. The bench creates and
// removes it.
const image = "localhost/mcpfleet-bench:latest"

// maxOngoing is above any number of callers, so that the bench measures the path
// without the queue.
const maxOngoing = 1024

// serverSpec returns the fleet file's entry of the echo server for a runtime.
func serverSpec(ctx context.Context, kind string) (map[string]any, error) {
	spec := map[string]any{"max_ongoing_requests": maxOngoing, "default_tool": "echo"}
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if kind == "process" {
		spec["command"] = []string{path, "echo"}
		return spec, nil
	}
	spec["image"], spec["pull_policy"], spec["network"] = image, "never", "none"
	return spec, makeImage(ctx, path)
}

// makeImage creates an image of this program, which must be static.
func makeImage(ctx context.Context, path string) error {
	program, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "bench", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "podman", "import", "--change", `ENTRYPOINT ["/bench", "echo"]`, "-", image)
	cmd.Stdin = &layer
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("podman import: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// removeImage fails while another subject uses the image. That subject removes it
// later.
func removeImage() { _ = exec.Command("podman", "rmi", image).Run() }

// prepare creates a state directory, and returns what the echo server is made from.
func prepare(ctx context.Context, kind string, undo *cleanup) (dir string, spec map[string]any, err error) {
	if dir, err = os.MkdirTemp("", "mcpfleet-bench-"); err != nil {
		return "", nil, err
	}
	undo.add(func() { os.RemoveAll(dir) })
	if spec, err = serverSpec(ctx, kind); err != nil {
		return "", nil, err
	}
	if kind == "podman" {
		undo.add(removeImage)
	}
	return dir, spec, nil
}

// suffix returns what the names of subjects end with, by the runtime.
func suffix(kind string) string {
	if kind == "process" {
		return ""
	}
	return "+" + kind
}

// startNode starts the worker program. When it stops it need not wait, since nothing
// moves its replica elsewhere.
func startNode(ctx context.Context, cfg config, dir, kind string, args ...string) (*child, error) {
	return startChild(ctx, filepath.Join(cfg.bin, "worker"), append([]string{
		"--name", "bench-" + kind, "--runtime", kind, "--data-dir", filepath.Join(dir, "worker"), "--drain-timeout", "1s",
		"--log-level", "warn"}, args...)...)
}

// startWorker measures one worker, called over gRPC as by a controller.
func startWorker(kind string) func(context.Context, config) (*running, error) {
	return func(ctx context.Context, cfg config) (_ *running, err error) {
		var undo cleanup
		defer func() {
			if err != nil {
				undo.run()
			}
		}()
		dir, spec, err := prepare(ctx, kind, &undo)
		if err != nil {
			return nil, err
		}
		node, err := startNode(ctx, cfg, dir, kind, "--grpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		undo.add(node.stop)
		var bound struct{ GRPC string }
		if err := json.Unmarshal([]byte(node.first), &bound); err != nil {
			return nil, fmt.Errorf("worker's first line %q: %w", node.first, err)
		}
		client, err := rpc.Dial(bound.GRPC, rpc.ClientConfig{})
		if err != nil {
			return nil, err
		}
		undo.add(func() { client.Close() })

		template := &fleet.Template{
			Network: "none", PullPolicy: fleet.PullNever,
			StartTimeout: fleet.DefaultStartTimeout, StopGrace: fleet.DefaultStopGrace,
			Health: fleet.Health{Period: time.Hour, Timeout: time.Second, Failures: 3},
		}
		if kind == "process" {
			template.Command, template.Network = spec["command"].([]string), ""
		} else {
			template.Image = image
		}
		order := fleet.Order{Cluster: "bench", Epoch: 1}
		id := fleet.NewReplicaID("bench", 1)
		replica, err := startReplica(ctx, client, order, fleet.Assignment{ID: id, Server: "bench", Revision: 1, Template: template})
		if err != nil {
			return nil, err
		}
		call := func(ctx context.Context, text string) error {
			args, err := json.Marshal(map[string]string{"text": text})
			if err != nil {
				return err
			}
			r, err := client.Call(ctx, fleet.CallRequest{Replica: id, Method: "tools/call", Params: mcp.CallParams("echo", args)}, fleet.CallHooks{})
			if err != nil {
				return err
			}
			return checkResult(r, text)
		}
		procs := append([]proc{driver(), {"worker", node.pid()}}, replicaProcs(kind, replica.PID)...)
		return &running{onePath("worker"+suffix(kind), call), procs, undo.run}, nil
	}
}

// startReplica starts a replica and waits until it is READY.
func startReplica(ctx context.Context, client *rpc.Client, order fleet.Order, a fleet.Assignment) (fleet.Replica, error) {
	if _, err := client.StartReplica(ctx, order, a); err != nil {
		return fleet.Replica{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last fleet.Replica
	err := client.Watch(ctx, order, func(r fleet.Report) {
		for _, replica := range r.Replicas {
			if replica.ID != a.ID {
				continue
			}
			last = replica
			if replica.Phase == fleet.PhaseReady || replica.Phase.Ended() {
				cancel()
			}
		}
	})
	if last.Phase != fleet.PhaseReady {
		return last, fmt.Errorf("replica is %s: %s (%w)", last.Phase, last.Reason, err)
	}
	return last, nil
}

func checkResult(r fleet.CallResult, text string) error {
	if r.Stream == nil {
		if r.Error != nil {
			return fmt.Errorf("server's error: %s", r.Error)
		}
		return check(r.Result, text)
	}
	var b bytes.Buffer
	b.Grow(int(r.StreamSize))
	_, err := b.ReadFrom(r.Stream)
	if err = errors.Join(err, r.Stream.Close()); err != nil {
		return err
	}
	return check(b.Bytes(), text)
}

// startFleet measures the whole path: controller, worker, one replica.
func startFleet(kind string) func(context.Context, config) (*running, error) {
	return func(ctx context.Context, cfg config) (_ *running, err error) {
		var undo cleanup
		defer func() {
			if err != nil {
				undo.run()
			}
		}()
		dir, spec, err := prepare(ctx, kind, &undo)
		if err != nil {
			return nil, err
		}
		addr, procs, err := runFleet(ctx, cfg, dir, kind, spec, &undo)
		if err != nil {
			return nil, err
		}
		pids, err := readyReplicas(ctx, addr, 1)
		if err != nil {
			return nil, err
		}
		call, idle := httpCaller(addr)
		undo.add(idle)
		paths := onePath("mcpfleet"+suffix(kind), call)
		if kind == "process" {
			client, idle := newMCPClient("http://" + addr + "/bench/mcp")
			undo.add(idle)
			paths = append(paths, client.paths("mcpfleet")...)
		}
		return &running{paths, append(procs, replicaProcs(kind, pids[0])...), undo.run}, nil
	}
}

// runFleet starts a controller and a worker that run one server, and returns
// the controller's HTTP address. The replicas may not be READY yet.
func runFleet(ctx context.Context, cfg config, dir, kind string, spec map[string]any, undo *cleanup) (addr string, procs []proc, err error) {
	file, err := json.Marshal(map[string]any{"servers": map[string]any{"bench": spec}})
	if err != nil {
		return "", nil, err
	}
	path := filepath.Join(dir, "fleet.json")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		return "", nil, err
	}
	front, err := startChild(ctx, filepath.Join(cfg.bin, "controller"), "--name", "bench", "--config", path, "--http", "127.0.0.1:0",
		"--gossip", "127.0.0.1:0", "--shutdown-delay", "0s", "--data-dir", filepath.Join(dir, "controller"), "--log-level", "warn")
	if err != nil {
		return "", nil, err
	}
	undo.add(front.stop)
	var bound struct{ HTTP, Gossip string }
	if err := json.Unmarshal([]byte(front.first), &bound); err != nil {
		return "", nil, fmt.Errorf("controller's first line %q: %w", front.first, err)
	}
	node, err := startNode(ctx, cfg, dir, kind, "--grpc", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--join", bound.Gossip)
	if err != nil {
		return "", nil, err
	}
	undo.add(node.stop)
	return bound.HTTP, []proc{driver(), {"controller", front.pid()}, {"worker", node.pid()}}, nil
}

// readyReplicas waits until n replicas are READY and returns their processes.
func readyReplicas(ctx context.Context, addr string, n int) (pids []int, err error) {
	err = waitFor(ctx, func() error {
		resp, err := http.Get("http://" + addr + "/api/v1/replicas")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var list api.Replicas
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			return err
		}
		pids = nil
		for _, r := range list.Replicas {
			if r.Phase == fleet.PhaseReady.String() && r.PID != nil {
				pids = append(pids, *r.PID)
			}
		}
		if len(pids) < n {
			return fmt.Errorf("%d of %d replicas are READY: %+v", len(pids), n, list.Replicas)
		}
		return nil
	})
	return pids, err
}

// cleanup runs cleanup functions in reverse order.
type cleanup []func()

func (c *cleanup) add(f func()) { *c = append(*c, f) }

func (c *cleanup) run() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
}
