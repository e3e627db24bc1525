package up

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

func TestNextDelay(t *testing.T) {
	var got []time.Duration
	delay := time.Duration(0)
	for _, life := range []time.Duration{time.Second, 0, 0, 0, 0, 0, 0, time.Minute, time.Second} {
		delay = nextDelay(delay, life)
		got = append(got, delay)
	}
	ms := time.Millisecond
	want := []time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms, 200 * ms, 400 * ms}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestArguments(t *testing.T) {
	ring := newRing()
	kind := &controllers{path: "/bin/controller", dataDir: "/data", config: "/f.yaml", count: 1, workers: 3, ring: ring}
	controller := kind.program("controller", "127.0.0.1:8000")
	first := strings.Join(controller.args(address{}), " ")
	if want := "--name controller --http 127.0.0.1:8000 --gossip 127.0.0.1:0 --raft 127.0.0.1:0 --bootstrap-expect 1 --config /f.yaml --shutdown-delay 0s --drain-timeout 5s --data-dir /data/controller --expect-workers 3 --lifeline-fd 3"; first != want {
		t.Errorf("got  %s\nwant %s", first, want)
	}
	ring.set("controller", address{Gossip: "127.0.0.1:777"})
	again := strings.Join(controller.args(address{HTTP: "127.0.0.1:8000", Gossip: "127.0.0.1:777", Raft: "127.0.0.1:778"}), " ")
	want := strings.Replace(first, "--gossip 127.0.0.1:0", "--gossip 127.0.0.1:777", 1)
	if want = strings.Replace(want, "--raft 127.0.0.1:0", "--raft 127.0.0.1:778", 1); again != want {
		t.Errorf("got  %s\nwant %s", again, want)
	}
	had := address{HTTP: "127.0.0.1:8001", Gossip: "127.0.0.1:777", Raft: "127.0.0.1:778"}
	if got := controller.addressForRetry(had); got != (address{}) {
		t.Errorf("after a failed start it asks for %v", got)
	}
	controller.known = true
	if got := controller.addressForRetry(had); got != (address{HTTP: had.HTTP}) {
		t.Errorf("after a failed start, the first controller asks for %v", got)
	}
	open := *kind
	open.config, open.insecure, open.allowedHosts, open.count = "", true, []string{"a.example", "*.b.example"}, 3
	open.legacySSE = true
	other := strings.Join(open.program("controller-2", ":0").args(address{}), " ")
	if want := "--name controller-2 --http :0 --gossip 127.0.0.1:0 --raft 127.0.0.1:0 --bootstrap-expect 3 --join 127.0.0.1:777 --insecure --allowed-hosts a.example,*.b.example --legacy-sse --shutdown-delay 0s --drain-timeout 5s --data-dir /data/controller-2 --expect-workers 3 --lifeline-fd 3"; other != want {
		t.Errorf("got  %s\nwant %s", other, want)
	}
	ring.set("controller-2", address{Gossip: "127.0.0.1:666"})
	worker := strings.Join((&workers{path: "/bin/worker", dataDir: "/data", runtime: "podman,process", offered: fleet.Resources{CPUs: 0.5, Memory: 1 << 30}, ring: ring}).
		program(workerName(0)).args(address{}), " ")
	if want := "--name worker-1 --grpc 127.0.0.1:0 --gossip 127.0.0.1:0 --join 127.0.0.1:777,127.0.0.1:666 --runtime podman,process --cpus 0.5 --memory 1073741824 --data-dir /data/worker-1 --lifeline-fd 3"; worker != want {
		t.Errorf("got  %s\nwant %s", worker, want)
	}
}

func TestControllerNames(t *testing.T) {
	for _, tt := range []struct {
		had   string
		count int
		want  string
		hint  string
	}{
		{"", 1, "controller", ""},
		{"", 3, "controller-1 controller-2 controller-3", ""},
		{"", 2, "controller-1 controller-2", "2 controllers survive the loss of 0, no more than 1 would: use an odd number"},
		{"controller", 1, "controller", ""},
		{"controller", 3, "controller controller-2 controller-3", ""},
		{"controller-1 controller-2 controller-3", 1, "controller-1", "the data directory has the state of 3 controllers, of which 1 will run: " +
			"nothing can be changed without a majority of them; --controllers 3 runs all"},
		{"controller-1 controller-3", 4, "controller-1 controller-3 controller-2 controller-4", "4 controllers survive the loss of 1, no more than 3 would: use an odd number"},
	} {
		dir := t.TempDir()
		for name := range strings.FieldsSeq(tt.had + " controller-0 controller-x controllers worker-1") {
			if err := os.MkdirAll(filepath.Join(dir, name, "state"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, "controller-9"), 0o700); err != nil { // empty: never ran
			t.Fatal(err)
		}
		had := knownControllers(dir)
		if got := strings.Join(had, " "); got != tt.had {
			t.Errorf("knownControllers: got %q, want %q", got, tt.had)
		}
		if got := strings.Join(controllerNames(had, tt.count), " "); got != tt.want {
			t.Errorf("%q with %d: got %s, want %s", tt.had, tt.count, got, tt.want)
		}
		if got := controllersHint(len(had), tt.count); got != tt.hint {
			t.Errorf("%q with %d: got %q, want %q", tt.had, tt.count, got, tt.hint)
		}
	}
}

func TestChildEnv(t *testing.T) {
	env := []string{"PATH=/bin", "MCPFLEET_DATA_DIR=/x", "MCPFLEET_JOIN=y", "MCPFLEET_LOG_LEVEL=debug", "MCPFLEET_NAMES=z"}
	if got, want := childEnv(env), []string{"PATH=/bin", "MCPFLEET_LOG_LEVEL=debug", "MCPFLEET_NAMES=z"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if env[1] != "MCPFLEET_DATA_DIR=/x" {
		t.Error("the caller's list was changed")
	}
}

// A program that dies as soon as it has printed its address has started, and is
// restarted like any other.
func TestStartOfAProgramThatDiesAtOnce(t *testing.T) {
	dir, err := openDataDir(t.Context(), t.TempDir(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	l, err := newLauncher(dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	p := program{
		name: "worker-1", path: "/bin/sh",
		args:     func(address) []string { return []string{"-c", `echo '{"http":"127.0.0.1:1"}'`} },
		complete: func(address) string { return "" },
	}
	for n := range 100 {
		c, err := l.start(t.Context(), p, address{})
		if err != nil {
			t.Fatalf("start %d: %v", n, err)
		}
		<-c.exited
		c.log.close()
		if c.addr.HTTP != "127.0.0.1:1" {
			t.Fatalf("start %d: its address is %+v", n, c.addr)
		}
	}
}

func TestSampleArgs(t *testing.T) {
	tests := []struct{ schema, want string }{
		{`{"type":"object"}`, `{}`},
		{`{"type":"object","properties":{"a":{"type":"string"}}}`, `{}`},
		{`{"type":"object","required":["q","n","k","o","l","b","d"],"properties":{"q":{"type":"string"},"n":{"type":"integer","minimum":3},"k":{"enum":["x","y"]},
		  "o":{"type":"object","required":["z"],"properties":{"z":{"type":"number"}}},"l":{"type":"array"},"b":{"type":"boolean"},"d":{"default":null}}}`,
			`{"b":false,"d":null,"k":"x","l":[],"n":3,"o":{"z":1},"q":"hello"}`},
		{`{"type":"object","required":["a"],"properties":{}}`, ""},
		{`{"type":"object","required":["a"],"properties":{"a":{"anyOf":[]}}}`, ""},
		{`[]`, ""},
	}
	for _, tt := range tests {
		got, ok := sampleArgs(json.RawMessage(tt.schema))
		if string(got) != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: got %s, %v; want %s", tt.schema, got, ok, tt.want)
		}
	}
}

func TestAnnouncement(t *testing.T) {
	s := snapshot{ready: api.Ready{Servers: []api.ServerReady{
		{Name: "good", Desired: 1, Ready: 1}, {Name: "bad", Desired: 2, Reason: "exit code 1:\n  no key"},
	}}}
	servers := []api.Server{{Name: "good", Spec: json.RawMessage(`{"default_tool":"find"}`)}}
	tools := []api.Tool{{Name: "echo", Server: "good"}, {Name: "find", Server: "good", InputSchema: json.RawMessage(`{"type":"object","required":["q"],"properties":{"q":{"type":"string"}}}`)}}
	got := strings.Join(announcement("http://h:1", "mcpfleet", s, pickExample("good", servers, "good", tools)), "\n")
	want := `mcpfleet is ready: http://h:1
  bad has 0 of 2 replicas: exit code 1: no key
try:
  curl -s http://h:1/good/tools
  curl -s http://h:1/good/call -H 'Content-Type: application/json' -d '{"tool_name":"find","tool_args":{"q":"hello"}}'`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	empty := strings.Join(announcement("http://h:1", "bin/mcpfleet", snapshot{}, exampleTools{}), "\n")
	if want := "mcpfleet is ready: http://h:1\nno server is deployed; deploy some with: bin/mcpfleet --address h:1 apply -f FILE"; empty != want {
		t.Errorf("got\n%s\nwant\n%s", empty, want)
	}
	// The example calls no tool that might do harm.
	if e := pickExample("", nil, "good", tools[1:]); e.tool != nil {
		t.Errorf("picked %+v", e.tool)
	}
}

func TestServerRows(t *testing.T) {
	s := snapshot{
		ready: api.Ready{Servers: []api.ServerReady{
			{Name: "a", State: fleet.StateDeploying, Desired: 3, Ready: 1, Reason: "1 of 3 replicas ready"},
			{Name: "b", State: fleet.StateUnavailable, Desired: 1, Reason: "no\nroom"},
			{Name: "c", State: fleet.StateDeploying, Desired: 1, Reason: "waiting for worker-3 to report; 0 of 1 replica ready"},
			{Name: "d", State: fleet.StateReady, Desired: 2, Ready: 2},
		}},
		replicas: []api.Replica{{Server: "a", Phase: "READY"}, {Server: "a", Phase: "STARTING"}, {Server: "a", Phase: "PULLING", Reason: "40%"}, {Server: "b", Phase: "PENDING"}},
	}
	got := phases{}.serverRows(s, true)
	want := []progress.Row{
		{Name: "a", Key: "DEPLOYING, STARTING", Text: "DEPLOYING, 1/3 ready, 1 pulling, 1 starting", Detail: "40%"},
		{Name: "b", Key: "UNAVAILABLE, UNKNOWN", Text: "UNAVAILABLE, 0/1 ready, 1 pending: no room"},
		{Name: "c", Text: "DEPLOYING, 0/1 ready", Detail: "waiting for worker-3 to report; 0 of 1 replica ready"},
		{Name: "d", Key: "READY, UNKNOWN", Text: "READY, 2/2 ready"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if later := (phases{}).serverRows(s, false); later[0].Key != "DEPLOYING, 3 wanted" {
		t.Errorf("key %q of a running cluster changes with each replica", later[0].Key)
	}
}

// Away from a terminal, each server has one line per phase, no matter how often
// it is polled and what its replicas do meanwhile.
func TestOneLineForEachPhase(t *testing.T) {
	var out strings.Builder
	printer := progress.New(&out)
	reached := phases{}
	show := func(state fleet.State, ready int, replicas ...string) {
		s := snapshot{ready: api.Ready{Servers: []api.ServerReady{{Name: "x", State: state, Desired: 3, Ready: ready, Reason: "because"}}}}
		for _, phase := range replicas {
			s.replicas = append(s.replicas, api.Replica{Server: "x", Phase: phase})
		}
		printer.Progress(append(reached.serverRows(s, true), joinedRow("workers", ready, 3)))
	}
	const deploying, ready = fleet.StateDeploying, fleet.StateReady
	show(deploying, 0)
	show(deploying, 0, "PENDING")
	show(deploying, 0, "PENDING", "PULLING")
	show(deploying, 0, "PULLING", "PULLING")
	show(deploying, 0, "PULLING", "STARTING")
	show(deploying, 1, "READY", "PULLING")
	show(deploying, 1, "READY")
	show(deploying, 2, "READY", "STARTING")
	show(ready, 3, "READY", "READY", "READY")
	show(ready, 3, "READY", "READY", "READY")
	want := `workers: 0/3 joined
x: DEPLOYING, 0/3 ready, 1 pending, 1 pulling
x: DEPLOYING, 0/3 ready, 1 pulling, 1 starting
x: READY, 3/3 ready
workers: 3/3 joined
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

// If no server starts although all workers have joined, the watcher reports the
// reason once.
func TestIdle(t *testing.T) {
	var out strings.Builder
	w := &watcher{workers: 1, out: progress.New(&out)}
	s := snapshot{
		ready: api.Ready{Servers: []api.ServerReady{{Name: "x", State: fleet.StateDeploying, Desired: 1, Reason: "waiting for worker-3 to report"}}},
		nodes: []api.Node{{Role: fleet.RoleWorker, State: api.NodeReady}},
	}
	for range 5 * idlePolls {
		w.reportIdle(s)
	}
	if want := "nothing has started yet; x: waiting for worker-3 to report\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
	out.Reset()
	w.idle = 0
	for i := range 5 * idlePolls {
		s.replicas = nil
		if i%idlePolls == 0 {
			s.replicas = []api.Replica{{Server: "x"}}
		}
		w.reportIdle(s)
	}
	if out.Len() > 0 {
		t.Errorf("reported %q while a server starts", &out)
	}
}

func TestWorkersHint(t *testing.T) {
	for _, tt := range []struct {
		before, now int
		want        string
	}{
		{0, 3, ""}, {3, 3, ""}, {2, 3, ""},
		{3, 2, "worker-3 ran here before but does not run now: the controllers wait up to 10 s for replicas that may still run there before they replace them; --workers 3 runs all"},
		{3, 1, "worker-2 and worker-3 ran here before but do not run now: the controllers wait up to 10 s for replicas that may still run there before they replace them; --workers 3 runs all"},
		{5, 2, "worker-3 to worker-5 ran here before but do not run now: the controllers wait up to 10 s for replicas that may still run there before they replace them; --workers 5 runs all"},
	} {
		if got := workersHint(tt.before, tt.now); got != tt.want {
			t.Errorf("%d, then %d: got %q, want %q", tt.before, tt.now, got, tt.want)
		}
	}
}

// callsUnderWay counts the running and queued calls of all controllers, and does
// not wait for one that does not answer.
func TestCallsUnderWay(t *testing.T) {
	serve := func(text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/metrics" && text != "" {
				fmt.Fprint(w, text)
				return
			}
			<-r.Context().Done()
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	one := serve(`# HELP mcpfleet_calls_ongoing Calls from this controller that hold a slot of a replica.
# TYPE mcpfleet_calls_ongoing gauge
mcpfleet_calls_ongoing{server="a"} 3
mcpfleet_calls_ongoing{server="b"} 0
mcpfleet_calls_queued{server="a"} 2
mcpfleet_calls_ongoing_more{server="a"} 7
mcpfleet_calls_total{server="a"} 99
`)
	two := serve("mcpfleet_calls_ongoing{server=\"a\"} 1\n")
	if got := callsUnderWay(t.Context(), []string{one, two, serve(""), "127.0.0.1:1"}); got != 6 {
		t.Errorf("got %d calls, want 6", got)
	}
	for calls, want := range map[int]string{
		0: "stopping",
		1: "stopping: 1 call is under way and has 5 s to end; press Ctrl-C again to stop at once",
		6: "stopping: 6 calls are under way and have 5 s to end; press Ctrl-C again to stop at once",
	} {
		if got := stopText(calls); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("an earlier life\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if got := l.tail(5); len(got) != 0 {
		t.Errorf("the tail has lines of an earlier process: %q", got)
	}
	fmt.Fprint(l.file, "one\n\ntwo\nthree\n")
	if got, want := l.tail(2), []string{"two", "three"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	line := strings.Repeat("x", 1023) + "\n"
	for range maxLog/len(line) + 1 {
		fmt.Fprint(l.file, line)
	}
	if err := l.bound(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(l.file, "after the cut")
	if got, want := l.tail(9), []string{"after the cut"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if old, err := os.Stat(path + ".1"); err != nil || old.Size() != maxLog {
		t.Errorf("the older part: %v, %v", old, err)
	}
}

func TestSweepTemp(t *testing.T) {
	root := t.TempDir()
	make := func(name, lock string) string {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if lock != "no lock" {
			if err := os.WriteFile(filepath.Join(dir, lockName), []byte(lock), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	make("mcpfleet-up-stale", "77\n")
	make("mcpfleet-up-new", "no lock")
	make("mcpfleet-up-locking", "")
	make("other", "77\n")
	children, err := lockDir(make("mcpfleet-up-children", ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := children.recordChild("me", os.Getpid()); err != nil {
		t.Fatal(err)
	}
	children.lock.Close()
	held, err := lockDir(make("mcpfleet-up-held", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer held.lock.Close()

	left := func() string {
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, strings.TrimPrefix(e.Name(), tempPrefix))
		}
		return strings.Join(names, " ")
	}
	sweepTemp(root, time.Now())
	if got, want := left(), "children held locking new other"; got != want {
		t.Errorf("left: %s, want %s", got, want)
	}
	sweepTemp(root, time.Now().Add(2*minTempAge))
	if got, want := left(), "children held other"; got != want {
		t.Errorf("left after long: %s, want %s", got, want)
	}
}

// The image contains only the program, and starts.
func TestDemoImage(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("containers need Linux and root here")
	}
	if os.Getenv("CONTAINERS_CONF") == "" { // some hosts refuse podman's defaults
		conf, err := filepath.Abs("../../../deploy/images/containers.conf")
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("CONTAINERS_CONF", conf)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	source := filepath.Join(dir, "main.go")
	// The text is unique, so that no other test has this image.
	text := "package main\nfunc main() { println(" + strconv.Quote("hello from "+dir) + ") }\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image, err := demoImageOf(t.Context(), program, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if out, err := exec.Command("podman", "rmi", image).CombinedOutput(); err != nil {
			t.Errorf("remove the image: %v: %s", err, out)
		}
	}()
	if again, err := demoImageOf(t.Context(), program, dir); err != nil || again != image {
		t.Errorf("the second time: %s, %v; want %s", again, err, image)
	}
	out, err := exec.Command("podman", "run", "--rm", "--network", "none", image).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hello from "+dir) {
		t.Errorf("run: %v: %s", err, out)
	}
}

// checkRunnable compares a file with the runtimes of the machine.
func TestRunnable(t *testing.T) {
	file := func(servers string) *fleetfile.File {
		f, err := fleetfile.Parse([]byte("servers: "+servers), fleetfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	both := file("{a: {image: x}, b: {command: [y]}, c: {command: [z]}}")
	images := file("{a: {image: x}}")
	for name, tt := range map[string]struct {
		here          machine
		file          *fleetfile.File
		warning, fail string
	}{
		"both":        {here: machine{Runtimes: []string{"podman", "process"}}, file: both},
		"no podman":   {here: machine{Runtimes: []string{"process"}, Reason: "it is broken"}, file: both, warning: "1 of 3 servers cannot run here: a: an image needs podman (it is broken)"},
		"images only": {here: machine{Runtimes: []string{"podman"}}, file: both, warning: "2 of 3 servers cannot run here: b, c: a command needs --runtime podman,process, not podman alone"},
		"nothing":     {here: machine{Runtimes: []string{"process"}}, file: images, fail: "no server can start: a: an image needs podman (--runtime process leaves it out)"},
		"no servers":  {here: machine{Runtimes: []string{"process"}}, file: &fleetfile.File{}},
	} {
		warning, err := checkRunnable(tt.file, &tt.here)
		if warning != tt.warning || err != nil && err.Error() != tt.fail || err == nil && tt.fail != "" {
			t.Errorf("%s: got %q, %v\nwant %q, %s", name, warning, err, tt.warning, tt.fail)
		}
	}
}

// Together the workers offer no more than the machine has.
func TestShare(t *testing.T) {
	for _, tt := range []struct {
		here   machine
		cfg    Config
		cpus   float64
		memory int64
	}{
		{machine{CPUs: 2, Memory: 9 << 30}, Config{Workers: 1}, 2, 9 << 30},
		{machine{CPUs: 2, Memory: 9 << 30}, Config{Workers: 3}, 0.66, 3 << 30},
		{machine{CPUs: 2, Memory: 9 << 30}, Config{Workers: 3, CPUs: 4}, 4, 3 << 30},
		{machine{CPUs: 2, Memory: 9 << 30}, Config{Workers: 3, Memory: "1g"}, 0.66, 1 << 30},
		{machine{CPUs: 0.1}, Config{Workers: 64}, 0.01, 0},
		{machine{}, Config{Workers: 3}, 0, 0},
	} {
		if got := tt.here.share(&tt.cfg); got.CPUs != tt.cpus || got.Memory != tt.memory {
			t.Errorf("%+v with %d workers: each offers %+v, want %v and %d", tt.here, tt.cfg.Workers, got, tt.cpus, tt.memory)
		}
	}
}

// Without --workers, as many workers run as leave room for the biggest server.
func TestWorkersFor(t *testing.T) {
	here := machine{CPUs: 2, Memory: 3 << 30}
	for servers, want := range map[string]int{
		"{a: {image: x}}": 3,
		"{a: {image: x, resources: {cpus: 0.66, memory: 1g}}}": 3,
		"{a: {image: x, resources: {cpus: 1}}}":                2,
		"{a: {image: x, resources: {memory: 1100m}}}":          2,
		"{a: {image: x, resources: {cpus: 1, memory: 2g}}}":    1,
		"{a: {image: x, resources: {cpus: 3}}}":                3, // it fits nowhere
	} {
		f, err := fleetfile.Parse([]byte("servers: "+servers), fleetfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got, why := here.workersFor(f, Config{}); got != want || (why != "") != (want < 3) {
			t.Errorf("%s: %d workers (%s), want %d", servers, got, why, want)
		}
	}
	if got, why := here.workersFor(nil, Config{}); got != 3 || why != "" {
		t.Errorf("without a file: %d workers (%s)", got, why)
	}
}

// The demo server runs as an image where podman can run it.
func TestDemoFile(t *testing.T) {
	for name, tt := range map[string]struct {
		offered string
		want    string
	}{
		"plain processes":         {"process", "command"},
		"dynamic, both":           {"podman,process", "command"},
		"dynamic and images only": {"podman", "is linked dynamically, but an image needs a static program: build it with CGO_ENABLED=0"},
	} {
		if runtime.GOOS != "linux" && name != "plain processes" {
			continue // the shell is not an ELF file there
		}
		here := machine{Runtimes: strings.Split(tt.offered, ",")}
		path, err := demoFile(t.Context(), &here, "/bin/sh", t.TempDir(), 2)
		if err != nil {
			if !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(b), `"`+tt.want+`": [`) {
			t.Errorf("%s: %v: %s", name, err, b)
		}
	}
}
