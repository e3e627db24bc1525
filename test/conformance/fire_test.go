//go:build linux

package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
	"github.com/mcpfleet/mcpfleet/test/tsclient"
)

var underFire = flag.Duration("fire", 40*time.Second, "how long sessions are under fire")

// fire is what the sessions of fire.mjs have seen.
type fire struct {
	Sessions, Calls, Repeated, Initializes, NotFound, Slowest int
	Errors                                                    map[string]int
}

const firedSessions = 50

// Fifty sessions of an official client call in a loop while replicas, a worker and a
// controller are killed and a rolling update runs. None sees an error, and none has to
// initialize again.
func TestSessionsUnderFire(t *testing.T) {
	s := install(t)
	into := tsclient.Scripts(t, s.dir, sub(t, scripts, "clients"))
	f := startFleetOf(t, 3)
	demo := filepath.Join(f.bin, "demo-server")
	spec := func(update int) map[string]any {
		return map[string]any{"command": []string{demo}, "replicas": workers, "env": map[string]string{"UPDATE": fmt.Sprint(update)}}
	}
	f.deploy(t, "shared", spec(0))

	ctx, cancel := context.WithTimeout(t.Context(), *underFire+harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.node, filepath.Join(into, "fire.mjs"), f.front+"/shared/mcp", fmt.Sprint(firedSessions), fmt.Sprint(underFire.Seconds()))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &stderr, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	shots := []func(n int){
		func(int) { f.killReplica(t, "shared") },
		func(int) { f.restart(t, &f.workers[1], "worker") },
		func(n int) { f.restart(t, &f.controllers[n%len(f.controllers)], "controller") },
		func(n int) { f.put(t, "shared", spec(n)) },
	}
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	var err error
firing:
	for n := 0; ; n++ {
		select {
		case err = <-ended:
			break firing
		case <-tick.C:
			shots[n%len(shots)](n)
		}
	}
	var got fire
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &got)
	}
	if err != nil {
		t.Fatalf("the sessions: %v\n%s\n%s", err, tail(out.Bytes()), tail(stderr.Bytes()))
	}
	t.Logf("%+v", got)
	if got.Sessions != firedSessions || got.Calls < firedSessions*int(underFire.Seconds())/2 {
		t.Errorf("%d sessions made %d calls, want %d sessions with two calls in three seconds or more", got.Sessions, got.Calls, firedSessions)
	}
	if got.Initializes != firedSessions || got.NotFound != 0 {
		t.Errorf("%d sessions were initialized %d times and told %d times that they do not exist", firedSessions, got.Initializes, got.NotFound)
	}
	for why, n := range got.Errors {
		t.Errorf("%d times: %s", n, why)
	}
}

// killReplica kills the process of one replica of a server.
func (f *testFleet) killReplica(t *testing.T, server fleet.ServerName) {
	t.Helper()
	replicas, err := f.living(t).Replicas(t.Context())
	if err != nil {
		t.Errorf("list replicas: %v", err)
		return
	}
	for _, r := range replicas {
		if r.Server == server && r.PID != nil && r.Phase == fleet.PhaseReady.String() {
			t.Logf("kill replica %s", r.ID)
			_ = syscall.Kill(*r.PID, syscall.SIGKILL)
			return
		}
	}
}

// restart kills a program and starts it again at the same addresses.
func (f *testFleet) restart(t *testing.T, p **harness.Process, program string) {
	t.Helper()
	old := *p
	t.Logf("kill %s", old.Name)
	old.Kill9()
	*p = f.start(t, program, old.Name, append(flagsOf[program], addressFlags(program, old.Addr)...)...)
}

func addressFlags(program string, at harness.Address) []string {
	if program == "worker" {
		return nil
	}
	return []string{"--http", at.HTTP, "--gossip", at.Gossip, "--raft", at.Raft}
}

// put changes a server's specification.
func (f *testFleet) put(t *testing.T, name string, spec map[string]any) {
	t.Helper()
	t.Logf("update %s", name)
	b, err := json.Marshal(spec)
	if err == nil {
		_, err = f.living(t).PutServer(t.Context(), fleet.ServerName(name), b, api.WriteOptions{})
	}
	if err != nil {
		t.Errorf("update %s: %v", name, err)
	}
}

// living returns the client of a controller that runs.
func (f *testFleet) living(t *testing.T) *api.Client {
	t.Helper()
	for _, c := range f.controllers {
		if client, err := api.NewClient(c.Addr.HTTP, nil); err == nil {
			if ready, err := client.Ready(t.Context()); err == nil && ready.Ready {
				return client
			}
		}
	}
	t.Error("no controller is ready")
	return f.Client
}
