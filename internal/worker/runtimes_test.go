package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// named is a test runtime under a real one's name.
type named struct {
	*agenttest.Runtime
	name   string
	swept  *[]string
	closed *[]string
}

func (n named) Name() string { return n.name }

func (n named) Sweep(ctx context.Context) ([]string, error) {
	*n.swept = append(*n.swept, n.name)
	return n.Runtime.Sweep(ctx)
}

func (n named) Close(ctx context.Context) error {
	*n.closed = append(*n.closed, n.name)
	return n.Runtime.Close(ctx)
}

// A worker with two runtimes reports both, starts each server with the one
// that it needs, and sweeps and closes both.
func TestTwoRuntimes(t *testing.T) {
	var swept, closed []string
	containers := named{agenttest.New(), fleet.RuntimePodman, &swept, &closed}
	plain := named{agenttest.New(), fleet.RuntimeProcess, &swept, &closed}
	cfg := config(t, nil)
	cfg.Runtimes = func(context.Context) ([]fleet.Runtime, error) { return []fleet.Runtime{containers, plain}, nil }
	grpc, _, stop := start(t, cfg)
	l := lead(t, grpc, fleet.Order{Cluster: "c", Epoch: 1})
	for id, template := range map[fleet.ReplicaID]*fleet.Template{
		"image-1": {Image: "docker.io/library/x", Args: []string{"a"}}, "command-1": {Command: []string{"x"}},
		"image-2": {Image: "y", Entrypoint: []string{"/y"}},
	} {
		server := fleet.ServerName(strings.Split(string(id), "-")[0])
		if _, err := l.StartReplica(t.Context(), l.order, fleet.Assignment{ID: id, Server: server, Revision: 1, Template: template}); err != nil {
			t.Fatal(err)
		}
		l.until(string(id)+" is ready", func() bool { return l.phases[id] == fleet.PhaseReady })
		l.echo(id)
	}
	if got := containers.Starts("image") + plain.Starts("command"); got != 3 || len(containers.Alive()) != 2 || len(plain.Alive()) != 1 {
		t.Errorf("podman runs %v, process runs %v", containers.Alive(), plain.Alive())
	}
	l.mu.Lock()
	offered := l.runtimes
	l.mu.Unlock()
	if want := []string{"podman", "process"}; !slices.Equal(offered, want) {
		t.Errorf("the node offers %v, want %v", offered, want)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"podman", "process"}; !slices.Equal(swept, want) || !slices.Equal(closed, want) {
		t.Errorf("swept %v, closed %v; want %v each", swept, closed, want)
	}
}

// One runtime that fails does not keep the other from its work.
func TestRuntimesFail(t *testing.T) {
	broken := errors.New("broken")
	first, second := agenttest.New(), agenttest.New()
	first.Inject(agenttest.Fault{Step: agenttest.StepSweep, Err: broken})
	second.Leave("process 7")
	var swept, closed []string
	both := runtimes{named{first, fleet.RuntimePodman, &swept, &closed}, named{second, fleet.RuntimeProcess, &swept, &closed}}
	removed, err := both.Sweep(t.Context())
	if !slices.Equal(removed, []string{"process 7"}) || !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "podman: ") {
		t.Errorf("swept %v, %v", removed, err)
	}
	images := runtimes{both[0]}
	_, err = images.Start(t.Context(), fleet.Launch{Template: &fleet.Template{Command: []string{"x"}}})
	if want := "the server needs the process runtime: this node offers only podman (--runtime)"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
