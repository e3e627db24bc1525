package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/worker"
)

func noEnv(string) (string, bool) { return "", false }

func TestFlags(t *testing.T) {
	env := map[string]string{
		"MCPFLEET_NAME": "w7", "MCPFLEET_JOIN": "a:1,b:2", "MCPFLEET_LABEL": "disk=ssd,gpu=no",
		"MCPFLEET_MEMORY": "4g", "XDG_STATE_HOME": "/state",
	}
	f, err := parseFlags([]string{"--join", "c:3", "--cpus", "1.5"}, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if f.node != "w7" || strings.Join(f.join, " ") != "c:3" || f.labels["disk"] != "ssd" || f.labels["gpu"] != "no" || f.dataDir != "/state/mcpfleet/worker-w7" {
		t.Errorf("got %+v", f)
	}
	r, err := f.capacity(fstest.MapFS{})
	if err != nil || r.CPUs != 1.5 || r.Memory != 4<<30 {
		t.Errorf("capacity %+v, %v", r, err)
	}
	f, err = parseFlags([]string{"--name", "a", "--lifeline-fd", "3"}, noEnv, io.Discard)
	if err != nil || f.drain() != 25*time.Second || f.insecure {
		t.Errorf("drain %v, insecure %v, %v", f.drain(), f.insecure, err)
	}
	for cpus, want := range map[float64]int{0.5: 2, 2: 4, 3.5: 7} {
		if got := f.starts(cpus); got != want {
			t.Errorf("with %g CPUs, %d replicas start at once; want %d", cpus, got, want)
		}
	}
	env = map[string]string{"MCPFLEET_RESOURCE": "gpu=2,licence.x=10"}
	f, err = parseFlags([]string{"--name", "a"}, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := f.capacity(fstest.MapFS{}); err != nil || !maps.Equal(r.Custom, map[string]int64{"gpu": 2, "licence.x": 10}) {
		t.Errorf("$MCPFLEET_RESOURCE: %v, %v", r.Custom, err)
	}
	f, err = parseFlags([]string{"--name", "a", "--resource", "gpu=2", "--resource", "disk=1"}, noEnv, io.Discard)
	if err != nil || len(f.resources) != 2 {
		t.Errorf("--resource: %v, %v", f.resources, err)
	}
	env = map[string]string{"MCPFLEET_MAX_STARTS": "9"}
	f, err = parseFlags([]string{"--name", "a"}, func(k string) (string, bool) { v, ok := env[k]; return v, ok }, io.Discard)
	if err != nil || f.starts(2) != 9 {
		t.Errorf("$MCPFLEET_MAX_STARTS: %d, %v", f.starts(2), err)
	}
}

// The worker refuses listeners that other machines can reach, unless --insecure
// is given.
func TestExposedListeners(t *testing.T) {
	for _, flag := range []string{"--grpc", "--gossip"} {
		for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:7947"} {
			dir := filepath.Join(t.TempDir(), "state")
			err := run(t.Context(), []string{"--name", "w", "--runtime", "process", "--data-dir", dir, flag, addr}, io.Discard, io.Discard)
			if err == nil || !strings.HasPrefix(err.Error(), flag+":") || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "--insecure") {
				t.Errorf("%s %s: got %v", flag, addr, err)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s %s: the data directory was made", flag, addr)
			}
		}
	}
	env := func(k string) (string, bool) { return "true", k == "MCPFLEET_INSECURE" }
	if f, err := parseFlags([]string{"--name", "w"}, env, io.Discard); err != nil || !f.insecure {
		t.Errorf("$MCPFLEET_INSECURE: %v", err)
	}
	// With --insecure the worker starts. Its context has ended, so it stops again.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	err := run(ctx, []string{"--name", "w", "--runtime", "process", "--data-dir", t.TempDir(), "--grpc", "0.0.0.0:0", "--insecure"}, io.Discard, &log)
	if err != nil || !strings.Contains(log.String(), "no access control yet") {
		t.Errorf("with --insecure: %v; log: %s", err, log.String())
	}
}

func TestFlagErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--name", "a b"}, "--name"},
		{[]string{"--name", "a", "--runtime", "docker"}, `--runtime: must be podman, process or auto, not "docker"`},
		{[]string{"--name", "a", "--runtime", "podman,"}, `--runtime: must be podman, process or auto, not ""`},
		{[]string{"--name", "a", "--runtime", "process,auto"}, "--runtime: auto cannot be combined with others"},
		{[]string{"--name", "a", "--runtime", "process,process"}, "--runtime: process is given twice"},
		{[]string{"--name", "a", "--log-level", "waring"}, `--log-level: must be debug, info, warn or error, not "waring"; did you mean "warn"?`},
		{[]string{"--name", "a", "--log-format", "Json"}, `--log-format: must be text or json, not "Json"; did you mean "json"?`},
		{[]string{"--name", "a", "--advertise", "http://x"}, `--advertise: must be a host, not "http://x"`},
		{[]string{"--name", "a", "--registry-authfile", "/does/not/exist"}, "--registry-authfile"},
		{[]string{"--name", "a", "--resource", "gpu"}, "--resource"},
		{[]string{"--name", "a", "--resource", "gpu=two"}, "--resource: gpu=two: the amount must be a whole number from 1 to 1000000, as in gpu=2"},
		{[]string{"--name", "a", "--resource", "gpu=0"}, "--resource: gpu=0: the amount"},
		{[]string{"--name", "a", "--resource", "gpu=1.5"}, "--resource: gpu=1.5: the amount"},
		{[]string{"--name", "a", "--resource", "cpus=2"}, "--resource: cpus=2: cpus is not a countable resource; its flag is --cpus"},
		{[]string{"--name", "a", "--resource", "memory=4g"}, "--resource: memory=4g: memory is not a countable resource; its flag is --memory"},
		{[]string{"--name", "a", "--resource", "a b=2"}, "--resource: a b=2: the name of a resource"},
		{[]string{"--name", "a", "--max-starts=-1"}, "--max-starts: must be 1 or more"},
		{[]string{"--name", "a", "--nonsense"}, "nonsense"},
		{[]string{"--name", "a", "extra"}, "extra"},
	} {
		if _, err := parseFlags(tc.args, noEnv, io.Discard); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v", tc.args, err)
		}
	}
	for _, bad := range []string{"lots", "0", "-1g", "4x"} {
		if _, err := parseFlags([]string{"--name", "a", "--memory", bad}, noEnv, io.Discard); err == nil || !strings.Contains(err.Error(), "--memory") {
			t.Errorf("--memory %s: got %v", bad, err)
		}
	}
	// All problems are reported together.
	env := func(name string) (string, bool) { return "soon", name == "MCPFLEET_DRAIN_TIMEOUT" }
	_, err := parseFlags(strings.Fields("--name a --runtim podman --cpus=-1 --runtime docker --log-format xml extra"), env, io.Discard)
	want := `6 problems:
  unknown flag: --runtim for "worker"; did you mean "--runtime" or "--check-runtime"?
  unexpected argument "extra": worker takes flags only
  environment variable MCPFLEET_DRAIN_TIMEOUT: "soon" is not valid for --drain-timeout (duration)
  --runtime: must be podman, process or auto, not "docker"
  --cpus: must be 0 or more, not -1
  --log-format: must be text or json, not "xml"`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// lines is a writer that sends each line on the channel.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// The worker prints one line of JSON, and stops in order when its lifeline ends.
func TestRunEndsWithItsLifeline(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	dir := t.TempDir()
	stdout, ended := make(lines, 10), make(chan error, 1)
	var log bytes.Buffer
	go func() {
		ended <- run(context.Background(), []string{
			"--name", "w", "--runtime", "process", "--data-dir", dir, "--lifeline-fd", fdOf(read), "--log-format", "json",
		}, stdout, &log)
	}()
	var at struct{ GRPC, Gossip string }
	select {
	case line := <-stdout:
		if err := json.Unmarshal([]byte(line), &at); err != nil || at.GRPC == "" || at.Gossip == "" || !strings.HasSuffix(line, "}\n") {
			t.Errorf("printed %q", line)
		}
	case err := <-ended:
		t.Fatalf("ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("printed nothing")
	}
	if _, err := worker.LockDir(dir); err == nil {
		t.Error("the data directory is not locked")
	}
	write.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("did not end")
	}
	if len(stdout) > 0 {
		t.Errorf("printed more: %q", <-stdout)
	}
	if !strings.Contains(log.String(), `"msg":"worker stopped"`) {
		t.Errorf("log: %s", log.String())
	}
}

// --check-runtime prints what a worker with the same flags offers.
func TestCheckRuntime(t *testing.T) {
	ask := func(args ...string) (check, error) {
		t.Helper()
		var out bytes.Buffer
		dir := filepath.Join(t.TempDir(), "new")
		err := run(t.Context(), append([]string{"--name", "w", "--check-runtime", "--data-dir", dir}, args...), &out, io.Discard)
		var got check
		if err == nil {
			err = json.Unmarshal(out.Bytes(), &got)
		} else if out.Len() > 0 {
			t.Errorf("%v: failed, but printed %q", args, &out)
		}
		return got, err
	}
	t.Setenv("PATH", t.TempDir()) // no podman

	got, err := ask("--runtime", "process", "--cpus", "1.5", "--memory", "4g")
	if want := (check{Runtimes: []string{"process"}, CPUs: 1.5, Memory: 4 << 30}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("process: got %+v, %v; want %+v", got, err, want)
	}
	got, err = ask()
	if err != nil || !slices.Equal(got.Runtimes, []string{"process"}) || !strings.Contains(got.Reason, "podman is not installed") || got.CPUs <= 0 {
		t.Errorf("auto: got %+v, %v", got, err)
	}
	for _, asked := range []string{"podman", "process,podman"} {
		if _, err := ask("--runtime", asked); err == nil || !strings.Contains(err.Error(), "podman is not installed") {
			t.Errorf("--runtime %s: got %v, want an error about podman", asked, err)
		}
	}
}

// fdOf returns a copy of the file's descriptor, which run closes.
func fdOf(f *os.File) string {
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		panic(err)
	}
	return strconv.Itoa(fd)
}
