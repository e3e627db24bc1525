package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var _ fleet.Runtime = (*Runtime)(nil)

// needPodman fails on Linux as root if podman is missing, and skips elsewhere.
func needPodman(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("podman"); err == nil && runtime.GOOS == "linux" && os.Getuid() == 0 {
		return
	}
	if runtime.GOOS == "linux" && os.Getuid() == 0 {
		t.Fatal("podman is not installed, and on Linux as root these tests need it: apt-get install podman runc catatonit")
	}
	t.Skip("needs podman on Linux, as root")
}

// image makes the image of the tests once, without a registry.
var image = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mcpfleet-podman-test-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "server")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin, "./testdata/server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build server: %w\n%s", err, out)
	}
	program, err := os.ReadFile(bin)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "server", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return "", err
	}
	if _, err := w.Write(program); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	name := fmt.Sprintf("localhost/mcpfleet-podman-test:%d", os.Getpid())
	imp := exec.Command("podman", "import", "--change=ENTRYPOINT [\"/server\"]", "--change=ENV FROM_IMAGE=yes", "-", name)
	imp.Stdin = &b
	if out, err := imp.CombinedOutput(); err != nil {
		return "", fmt.Errorf("podman import: %w\n%s", err, out)
	}
	return name, nil
})

func TestMain(m *testing.M) {
	if dir := os.Getenv("DOOMED"); dir != "" {
		if err := doomed(dir, os.Getenv("DOOMED_NODE"), os.Getenv("DOOMED_IMAGE")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if _, err := exec.LookPath("podman"); err == nil {
		exec.Command("podman", "rmi", "--force", fmt.Sprintf("localhost/mcpfleet-podman-test:%d", os.Getpid())).Run()
	}
	os.Exit(code)
}

func testNode() fleet.NodeID { return fleet.NodeID("test-" + string(fleet.NewLifeID())) }

func open(t *testing.T, change func(*Config)) *Runtime {
	t.Helper()
	needPodman(t)
	cfg := Config{
		Node:    testNode(),
		DataDir: t.TempDir(),
		Log:     slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	if change != nil {
		change(&cfg)
	}
	r, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, name := range r.recorded() {
			t.Errorf("record of container %s is left", name)
		}
	})
	return r
}

func launchOf(t *testing.T, r *Runtime, args ...string) fleet.Launch {
	t.Helper()
	name, err := image()
	if err != nil {
		t.Fatal(err)
	}
	return fleet.Launch{
		Cluster: "c1", Node: r.node, Replica: fleet.NewReplicaID("srv", 1), Server: "srv", Revision: 1,
		Template: &fleet.Template{Image: name, PullPolicy: fleet.PullNever, Args: args, Network: "none"},
		Pulling:  func(string) {},
	}
}

func startOf(t *testing.T, r *Runtime, l fleet.Launch) *container {
	t.Helper()
	p, err := r.Start(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	c := p.(*container)
	t.Cleanup(func() { release(t, c) })
	return c
}

// release removes a container as the agent does.
func release(t *testing.T, c *container) {
	t.Helper()
	closeAll([]*os.File{c.stdin, c.stdout, c.stderr})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.Remove(ctx); err != nil {
		t.Error(err)
	}
	if tr := c.r.findTraces(c.rec, c.id); !tr.none() {
		t.Errorf("left of %s: %+v", c.rec.name, tr)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func readAll(t *testing.T, f *os.File) string {
	t.Helper()
	f.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read: %v after %q", err, b)
	}
	return string(b)
}

func TestEchoAndExit(t *testing.T) {
	r := open(t, nil)
	l, began := launchOf(t, r), time.Now()
	c := startOf(t, r, l)
	ready := time.Now()
	if c.PID() == 0 || !isID(c.ContainerID()) || c.main.PID == 0 || c.monitor.PID == 0 {
		t.Errorf("pid %d, id %q, main %v, monitor %v", c.PID(), c.ContainerID(), c.main, c.monitor)
	}
	if cpu, memory, ok := c.Consumed(); !ok || cpu <= 0 || cpu > time.Minute || memory <= 0 || memory > 100<<20 {
		t.Errorf("it uses %s and %d bytes, %v", cpu, memory, ok)
	}
	if at := c.Created(); !at.After(began) || at.After(ready) {
		t.Errorf("it was created at %s, and started between %s and %s", at, began, ready)
	}
	if _, err := io.WriteString(c.Stdin(), "hello\n"); err != nil {
		t.Fatal(err)
	}
	c.Stdin().Close()
	if got := readAll(t, c.stdout); got != "hello\n" {
		t.Errorf("stdout = %q", got)
	}
	if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{}) {
		t.Errorf("Exit = %+v", e)
	}
	for range 2 {
		if err := c.Remove(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
	}
	if cpu, memory, ok := c.Consumed(); ok {
		t.Errorf("it is removed, and uses %s and %d bytes", cpu, memory)
	}
}
