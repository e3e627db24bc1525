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

var underFire = flag.Duration("fire", 20*time.Second, "how long sessions of each mode are under fire")

// fire is what the sessions of fire.mjs have seen.
type fire struct {
	Sessions, Calls, Repeated, Initializes, NotFound, Slowest int
	// Lost are calls of a tool that must not run twice, which may be lost in flight.
	Lost, LostInARow int
	Errors           map[string]int
}

const firedSessions = 50

// shotPause is the longest time between two shots. All four kinds are fired at least once.
const shotPause = 5 * time.Second

// Fifty sessions of an official client call in a loop while a rolling update runs and
// replicas, a worker and a controller are killed. None has to initialize again. Calls of a
// tool that only reads never fail. Sessions with replicas of their own also call one that
// may have effects: of each session, at most the call in flight is lost.
func TestSessionsUnderFire(t *testing.T) {
	s := install(t)
	into := tsclient.Scripts(t, s.dir, sub(t, scripts, "clients"))
	f := startFleetOf(t, 3)
	demo := filepath.Join(f.bin, "demo-server")
	for _, mode := range []struct {
		name, tools string
		spec        map[string]any
	}{
		{fleet.SessionsShared, "echo", map[string]any{"replicas": workers}},
		{fleet.SessionsSession, "echo,flaky", map[string]any{"sessions": fleet.SessionsSession, "warm": 5, "session_idle": "10s"}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			spec := func(update int) map[string]any {
				mode.spec["command"], mode.spec["env"] = []string{demo}, map[string]string{"UPDATE": fmt.Sprint(update)}
				return mode.spec
			}
			f.deploy(t, mode.name, spec(0))
			got := f.fireAt(t, fleet.ServerName(mode.name), spec, s.node, filepath.Join(into, "fire.mjs"),
				f.front+"/"+mode.name+"/mcp", fmt.Sprint(firedSessions), fmt.Sprint(underFire.Seconds()), mode.tools)
			t.Logf("%+v", got)
			if got.Sessions != firedSessions || got.Calls < firedSessions*int(underFire.Seconds())/2 {
				t.Errorf("%d sessions made %d calls, want %d sessions with a call in two seconds or more", got.Sessions, got.Calls, firedSessions)
			}
			if got.Initializes != firedSessions || got.NotFound != 0 {
				t.Errorf("%d sessions were initialized %d times and told %d times that they do not exist", firedSessions, got.Initializes, got.NotFound)
			}
			if got.LostInARow > 1 {
				t.Errorf("a session lost %d calls in a row", got.LostInARow)
			}
			for why, n := range got.Errors {
				t.Errorf("%d times: %s", n, why)
			}
			if _, err := f.living(t).Delete(t.Context(), fleet.ServerName(mode.name), api.WriteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// fireAt runs sessions of a server, and shoots at what they use until they end. It returns
// what they have seen.
func (f *testFleet) fireAt(t *testing.T, server fleet.ServerName, spec func(update int) map[string]any, command string, args ...string) (got fire) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *underFire+harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &stderr, time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	shots := []func(n int){
		func(n int) { f.put(t, string(server), spec(n+1)) },
		func(int) { f.killReplica(t, server) },
		func(int) { f.restart(t, &f.workers[1], "worker") },
		func(n int) { f.restart(t, &f.controllers[n%len(f.controllers)], "controller") },
	}
	tick := time.NewTicker(min(shotPause, *underFire/time.Duration(len(shots)+1)))
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
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &got)
	}
	if err != nil {
		t.Fatalf("the sessions: %v\n%s\n%s", err, tail(out.Bytes()), tail(stderr.Bytes()))
	}
	return got
}

// killReplica kills the process of one replica of a server, of one that has a session if
// there is any.
func (f *testFleet) killReplica(t *testing.T, server fleet.ServerName) {
	t.Helper()
	replicas, err := f.living(t).Replicas(t.Context())
	if err != nil {
		t.Errorf("list replicas: %v", err)
		return
	}
	var victim api.Replica
	for _, r := range replicas {
		if r.Server == server && r.PID != nil && r.Phase == fleet.PhaseReady.String() && (victim.ID == "" || r.Session != "") {
			victim = r
		}
	}
	if victim.ID == "" {
		t.Logf("%s has no replica to kill", server)
		return
	}
	t.Logf("kill replica %s", victim.ID)
	_ = syscall.Kill(*victim.PID, syscall.SIGKILL)
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
