//go:build linux

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// All controllers and their disks are lost, and a backup is restored while the
// workers of the lost cluster run. Then two of the three new controllers are lost
// for good.
func TestRestoreAndRecover(t *testing.T) {
	t.Parallel()
	p := NewPlane(t, 3)
	server := fmt.Sprintf(`{ command: [%q], env: { TOKEN: %s }, replicas: `, program("testserver"), p.token)
	p.Fleet("servers: { kept: %s 2 }, idle: { command: [none], replicas: 0 } }", server)
	p.Start(2)
	// Raise the term above that of a first start.
	for range 2 {
		p.mustCLI("", "controllers", "transfer", p.Node(p.Follower().name))
	}
	kept := p.alive("kept")

	session := beginAt(t, p.Leader().Process, "kept")

	backup := filepath.Join(p.dir, "fleet.backup")
	p.mustCLI("", "backup", "-o", backup)
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup is %v (%v), want mode 0600", info, err)
	}
	if out := p.mustCLI("", "backup", "inspect", backup); !strings.Contains(out, "kept") || !strings.Contains(out, "idle") || strings.Contains(out, p.token+"\"") {
		t.Errorf("backup inspect: %s", out)
	}
	before := p.controllersOf(p.Leader())

	// Writes after the backup are lost with the controllers.
	p.Fleet("servers: { kept: %[1]s 3 }, later: %[1]s 1 } }", server)
	p.mustCLI("", "apply", "-f", p.file, "--wait")
	three := p.alive("kept")
	if len(three) != 3 || !contains(three, kept) {
		t.Fatalf("replicas were %v and are %v", kept, three)
	}
	p.KillAll()
	for i := range 3 {
		p.wipe(fmt.Sprintf("c%d", i+1))
	}

	cli(t, "mcpfleet", "", "restore", backup, "--data-dir", p.dataDir("c4")).must(t, "restore")
	if again := cli(t, "mcpfleet", "", "restore", backup, "--data-dir", p.dataDir("c4")); again.code != 1 || !strings.Contains(again.err, "has state already") {
		t.Errorf("restored into a directory with state: %+v", again)
	}
	p.StartNew("c4")
	harness.Eventually(t, 2*patience, func() error {
		servers, err := p.Servers(t.Context())
		if err != nil {
			return err
		}
		if len(servers) != 2 || servers[0].Name != "idle" || servers[1].Name != "kept" || servers[1].Ready != 2 || servers[1].State != fleet.StateReady {
			return fmt.Errorf("servers: %+v", servers)
		}
		if left := p.ReplicasOf("later", ""); len(left) > 0 {
			return fmt.Errorf("later still has %+v", left)
		}
		if n := p.running("testserver"); n != 2 {
			return fmt.Errorf("%d replicas run, want 2", n)
		}
		return nil
	})
	restored := p.alive("kept")
	if len(restored) != 2 || !contains(three, restored) {
		t.Errorf("replicas were %v and are %v", three, restored)
	}
	if s := p.Server("kept"); s.Restarts != 0 || s.Revision != 1 {
		t.Errorf("the restored server: %+v", s)
	}
	after := p.controllersOf(p.life("c4"))
	if after.Cluster != before.Cluster || after.Incarnation <= before.Incarnation {
		t.Errorf("cluster %s, incarnation %d became %s, %d", before.Cluster, before.Incarnation, after.Cluster, after.Incarnation)
	}
	if got := p.MustText("kept", "echo", `{"text":"restored"}`); got != "restored" {
		t.Errorf("echo returned %q", got)
	}
	session.through(p.life("c4").Process, "kept") // whose id the keys of the backup open
	session.mustEcho()

	// With three controllers it survives the loss of one again.
	p.StartNew("c5")
	p.StartNew("c6")
	p.AwaitVoters("c4", "c5", "c6")
	p.Kill("c4")
	p.Leader()
	if w := p.put("idle", `{"command": ["none"], "replicas": 0, "max_queued_requests": 77}`); queued(w.Server) != 77 {
		t.Errorf("the write became %+v", w)
	}
	p.mustKeep("kept", restored)

	// Another one is lost for good, and with it the quorum.
	p.Kill("c5")
	p.wipe("c4")
	p.wipe("c5")
	last := p.life("c6")
	harness.Eventually(t, patience, func() error {
		_, err := last.client.PutServer(t.Context(), "idle", []byte(`{"command": ["none"], "replicas": 0, "max_queued_requests": 78}`), writeAny)
		if !errors.Is(err, fleet.ErrNoLeader) {
			return fmt.Errorf("a write without a quorum: %w", err)
		}
		return nil
	})
	if got := p.MustText("kept", "echo", `{"text":"alone"}`); got != "alone" {
		t.Errorf("without a quorum echo returned %q", got)
	}
	if list, err := last.client.List(t.Context(), api.ReadOptions{Stale: true}); err != nil || len(list.Servers) != 2 {
		t.Errorf("a stale read without a quorum: %+v, %v", list, err)
	}
	if r := cli(t, "controller", "", "--data-dir", p.dataDir("c6"), "--recover"); r.code != 1 || !strings.Contains(r.err, "in use") {
		t.Errorf("recovered under a running controller: %+v", r)
	}
	p.retire(last)
	last.Stop()
	if r := cli(t, "controller", "", "--data-dir", p.dataDir("c6"), "--recover"); r.code != 0 || r.out == "" {
		t.Fatalf("recover: %+v", r)
	}
	p.Restart("c6")
	p.AwaitVoters("c6")
	if s := p.Server("idle"); queued(s) != 77 {
		t.Errorf("after the recovery the server is %+v", s)
	}
	p.put("idle", `{"command": ["none"], "replicas": 0, "max_queued_requests": 79}`)
	p.mustKeep("kept", restored)
	if now := p.controllersOf(p.life("c6")); now.Cluster != before.Cluster || now.Incarnation <= after.Incarnation {
		t.Errorf("cluster %s, incarnation %d became %s, %d", after.Cluster, after.Incarnation, now.Cluster, now.Incarnation)
	}
	p.mustCLI("", "restart", "kept", "--wait")
	if now := p.alive("kept"); len(now) != 2 || contains(restored, now) {
		t.Errorf("restarted, the replicas were %v and are %v", restored, now)
	}
	for name, w := range p.Workers {
		if !w.Running() {
			t.Errorf("%s did not last: %v", name, w.Err())
		}
	}
}

// controllersOf returns the controllers in the view of one.
func (p *Plane) controllersOf(l *life) api.Controllers {
	p.t.Helper()
	list, err := l.client.Controllers(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

// mustKeep waits until everything is ready, and fails the test unless a server's
// replicas are these processes.
func (p *Plane) mustKeep(server string, want map[fleet.ReplicaID]int) {
	p.t.Helper()
	p.AwaitReady(len(p.Workers))
	if got := p.alive(server); !maps.Equal(got, want) {
		p.t.Errorf("replicas and pids of %s were %v and are %v", server, want, got)
	}
}

// usedOf returns how many bytes of a bbolt file have ever been used, by the newer
// of its two meta pages. Each has the number of used pages and a transaction's id
// at these offsets.
func usedOf(file []byte) int {
	const page, usedAt, transactionAt = 4096, 56, 64
	at := func(meta, offset int) uint64 { return binary.LittleEndian.Uint64(file[meta*page+offset:]) }
	newer := 0
	if at(1, transactionAt) > at(0, transactionAt) {
		newer = 1
	}
	return int(at(newer, usedAt)) * page
}

// A controller with a damaged file does not start. It names the file, and says what
// to do. In a cluster of three, that is to start it with an empty directory.
func TestDamage(t *testing.T) {
	t.Parallel()
	p := NewPlane(t, 3)
	p.Fleet(`servers: { idle: { command: [none, secret-word], replicas: 0 } }`)
	p.Start(0)
	for i := range 50 {
		p.put("idle", fmt.Sprintf(`{"command": ["none", "secret-word", "%d"], "replicas": 0}`, i))
	}

	backup := filepath.Join(p.dir, "fleet.backup")
	p.mustCLI("", "backup", "-o", backup)
	victim := p.Follower().name
	p.Kill(victim)
	log := filepath.Join(p.dataDir(victim), "raft", "log.db")
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	used := usedOf(whole) // bbolt grows its file in advance, and damage to the unused rest has no effect
	for name, damage := range map[string]func([]byte) []byte{
		"torn tail":     func(b []byte) []byte { return b[:used-3996] },
		"half":          func(b []byte) []byte { return b[:used/2] },
		"flipped entry": func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "secret-word", "secret-wore")) },
		"zeros":         func(b []byte) []byte { return append(make([]byte, 8<<10), b[8<<10:]...) },
		"empty":         func([]byte) []byte { return nil },
	} {
		if err := os.WriteFile(log, damage(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		p.mustRefuse(name, p.flags(victim, anywhere), log)
	}

	// A restored directory has a snapshot, which can be damaged, too.
	restored := filepath.Join(p.dir, "restored")
	cli(t, "mcpfleet", "", "restore", backup, "--data-dir", restored).must(t, "restore")
	found, err := filepath.Glob(filepath.Join(restored, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(found) != 1 {
		t.Fatalf("snapshots: %v, %v", found, err)
	}
	state, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	state[len(state)/2] ^= 0x20
	if err := os.WriteFile(found[0], state, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--name", p.Node("r"), "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--data-dir", restored}
	p.mustRefuse("flipped snapshot", args, found[0])

	// A damaged backup is refused as well.
	file, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"cut off": file[:len(file)/2], "flipped": flip(file), "empty": nil} {
		damaged := filepath.Join(p.dir, "damaged.backup")
		if err := os.WriteFile(damaged, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		none := filepath.Join(p.dir, "none")
		if r := cli(t, "mcpfleet", "", "restore", damaged, "--data-dir", none); r.code != 1 || !strings.Contains(r.err, damaged) {
			t.Errorf("restored a backup that is %s: %+v", name, r)
		}
		if _, err := os.Stat(none); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the backup that is %s left %s behind (%v)", name, none, err)
		}
	}

	// Do what the message said.
	p.wipe(victim)
	p.StartNew(victim)
	p.AwaitVoters("c1", "c2", "c3")
	if s := p.Server("idle"); commandValue(s) != 49 {
		t.Errorf("the server is %+v", s)
	}
	if s, err := p.life(victim).client.GetServer(t.Context(), "idle", api.ReadOptions{Stale: true}); err != nil || commandValue(s) != 49 {
		t.Errorf("%s knows %+v, %v", victim, s, err)
	}
}

func flip(b []byte) []byte {
	bad := append([]byte(nil), b...)
	bad[len(bad)/2] ^= 0x04
	return bad
}

// mustRefuse fails the test unless the controller refuses to start because of a
// damaged file.
func (p *Plane) mustRefuse(what string, args []string, file string) {
	p.t.Helper()
	got := runsOut(p.t, "controller", args...)
	if got.code != 1 {
		p.t.Errorf("%s: exit code %d", what, got.code)
	}
	for _, w := range []string{file, "damaged", "move", "restore", "docs/OPERATIONS.md"} {
		if !strings.Contains(got.err, w) {
			p.t.Errorf("%s: no %q in what it said: %s", what, w, got.err)
		}
	}
	if strings.Contains(got.err, "goroutine ") {
		p.t.Errorf("%s: it crashed: %s", what, got.err)
	}
}

// Listeners that other machines can reach are refused without --insecure.
func TestExposedListeners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	base := map[string][]string{
		"controller": {"--name", "exposed", "--data-dir", filepath.Join(dir, "c")},
		"worker":     {"--name", "exposed", "--runtime", "process", "--data-dir", filepath.Join(dir, "w")},
		"mcpfleet":   {"up", "--runtime", "process", "--workers", "1", "--data-dir", filepath.Join(dir, "up")},
	}
	flags := map[string][]string{
		"controller": {"--http", "--gossip", "--raft", "--grpc"},
		"worker":     {"--grpc", "--gossip"},
		"mcpfleet":   {"--http"},
	}
	for name := range base {
		for _, exposed := range flags[name] {
			args := base[name]
			for _, f := range flags[name] {
				if addr := "127.0.0.1:0"; f != exposed {
					args = append(args[:len(args):len(args)], f, addr)
				}
			}
			got := runsOut(t, name, append(args[:len(args):len(args)], exposed, "0.0.0.0:0")...)
			if got.code != 2 || !strings.Contains(got.err, exposed) || !strings.Contains(got.err, "--insecure") {
				t.Errorf("%s %s 0.0.0.0:0: exit code %d, %s", name, exposed, got.code, got.err)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("what was refused left %v (%v)", entries, err)
	}
	c := start(t, "controller", filepath.Join(dir, "log"), append(base["controller"], "--http", "0.0.0.0:0", "--gossip", "127.0.0.1:0", "--insecure")...)
	defer c.Stop()
	client, err := api.NewClient(c.Addr.HTTP, nil)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, func() error {
		_, err := client.Ready(t.Context())
		return err
	})
}

// runsOut runs a program that should end by itself. One that does not is stopped,
// and its exit code is -1.
func runsOut(t testing.TB, name string, args ...string) said {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p := command(t, name, log, args...)
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	err := harness.Poll(patience, func() error {
		if p.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	if err != nil {
		p.Signal(syscall.SIGTERM)
		<-p.Exited()
		return said{err: harness.Tail(log, 50), code: -1}
	}
	return said{err: harness.Tail(log, 50), code: p.Cmd.ProcessState.ExitCode()}
}
