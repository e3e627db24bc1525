package up

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// TestMain lets the test binary play the programs that Run starts, and Run in a
// process of its own. Which one depends on the name it is called by.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "controller", "worker": // as the real programs do, in case stdout has lost its reader
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	switch filepath.Base(os.Args[0]) {
	case "controller":
		os.Exit(playController(parseFlags(os.Args[1:])))
	case "worker":
		os.Exit(playWorker(parseFlags(os.Args[1:])))
	case "up":
		os.Exit(playUp(os.Args[1]))
	}
	os.Exit(m.Run())
}

func parseFlags(args []string) map[string]string {
	flags := map[string]string{}
	for i := 0; i < len(args); i++ {
		if i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
			flags[args[i]] = args[i+1]
			i++
		} else {
			flags[args[i]] = ""
		}
	}
	return flags
}

// plays reports whether the test wants this misbehaviour of the programs.
func plays(behaviour string) bool {
	for w := range strings.SplitSeq(os.Getenv("PLAY"), ",") {
		if w == behaviour {
			return true
		}
	}
	return false
}

// life is one process of a played program, recorded in <data-dir>/lives.
type life struct {
	PID   int               `json:"pid"`
	Flags map[string]string `json:"flags"`
}

func recordLife(flags map[string]string) {
	dir := flags["--data-dir"]
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lives"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	b, err := json.Marshal(life{PID: os.Getpid(), Flags: flags})
	if err != nil {
		panic(err)
	}
	if _, err := f.Write(append(b, '\n')); err != nil {
		panic(err)
	}
}

// recordAddresses records the addresses of a program, for addressesOf, after the
// program has printed them.
func recordAddresses(flags, at map[string]string) {
	b, err := json.Marshal(at)
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(flags["--data-dir"], "at"), b, 0o600); err != nil {
		panic(err)
	}
}

// addressesOf returns the addresses of a program's newest process.
func addressesOf(t *testing.T, dataDir, program string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dataDir, program, "at"))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	if err := json.Unmarshal(b, &at); err != nil {
		t.Fatal(err)
	}
	return at
}

// listenForEnd returns a channel that gets "TERM" for that signal, and
// "lifeline" for the end of the lifeline.
func listenForEnd(flags map[string]string) <-chan string {
	ends := make(chan string, 2)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		for range term {
			if !plays("deaf") {
				ends <- "TERM"
			}
		}
	}()
	if fd := flags[lifelineFlag]; fd != "" {
		n := 0
		fmt.Sscan(fd, &n)
		go func() {
			io.Copy(io.Discard, os.NewFile(uintptr(n), "lifeline"))
			if !plays("deaf") && !plays("patient") {
				ends <- "lifeline"
			}
		}()
	}
	return ends
}

// end records why a program ends.
func end(flags map[string]string, why string) int {
	fmt.Fprintln(os.Stderr, "stopping for", why) // must not kill the program without a reader
	if err := os.WriteFile(filepath.Join(flags["--data-dir"], "end"), []byte(why), 0o600); err != nil {
		return 1
	}
	return 0
}

func playController(flags map[string]string) int {
	recordLife(flags)
	if plays("controller-fails") {
		fmt.Fprintln(os.Stderr, "see http://example.com\nlisten: address already in use")
		return 1
	}
	var mu sync.Mutex
	nodes := []api.Node{}
	count := 1
	fmt.Sscan(flags["--bootstrap-expect"], &count)
	for i := range count { // as if all had joined
		nodes = append(nodes, api.Node{Name: fleet.NodeID(fmt.Sprint("c", i)), Role: fleet.RoleController, State: api.NodeReady})
	}
	reply := func(v func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			json.NewEncoder(w).Encode(v())
		}
	}
	echo := api.Tool{Name: "echo", Server: "demo", InputSchema: json.RawMessage(`{"type":"object","required":["text"],"properties":{"text":{"type":"string"}}}`)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", reply(func() any {
		return api.Ready{Ready: true, Servers: []api.ServerReady{{Name: "demo", State: fleet.StateReady, Desired: 1, Ready: 1, Reason: "see http://elsewhere"}}}
	}))
	mux.HandleFunc("GET /api/v1/servers", reply(func() any {
		return api.Servers{Servers: []api.Server{{Name: "demo", Spec: json.RawMessage(`{"default_tool":"echo"}`)}}, ETag: "1.7"}
	}))
	mux.HandleFunc("PUT /api/v1/servers", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		out := api.Applied{Changes: []api.Change{}}
		if !plays("same") {
			out.Changes = []api.Change{{Server: "x", Kind: "created"}}
		}
		if r.URL.Query().Get("dry_run") != "1" || r.Header.Get("If-Match") != `"1.7"` || !strings.Contains(string(body), `"x"`) {
			fmt.Fprintln(os.Stderr, "want a dry run of the file, not a write")
			os.Exit(1)
		}
		json.NewEncoder(w).Encode(out)
	})
	mux.HandleFunc("GET /api/v1/replicas", reply(func() any { return api.Replicas{} }))
	mux.HandleFunc("GET /api/v1/nodes", reply(func() any { return api.Nodes{Nodes: nodes} }))
	mux.HandleFunc("GET /tools", reply(func() any { return api.Tools{Tools: []api.Tool{echo}} }))
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		if plays("busy") {
			io.WriteString(w, "mcpfleet_calls_ongoing{server=\"demo\"} 1\nmcpfleet_calls_queued{server=\"demo\"} 1\n")
		}
	})
	mux.HandleFunc("POST /join", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, api.Node{Name: fleet.NodeID(r.FormValue("name")), Role: fleet.RoleWorker, State: "READY"})
	})
	at := map[string]string{}
	for _, flag := range []string{"--http", "--gossip", "--raft"} { // workers join at the second, also by HTTP
		l, err := net.Listen("tcp", flags[flag])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go http.Serve(l, mux)
		at[strings.TrimPrefix(flag, "--")] = l.Addr().String()
	}
	ends := listenForEnd(flags)
	json.NewEncoder(os.Stdout).Encode(at)
	recordAddresses(flags, at)
	return end(flags, <-ends)
}

func playWorker(flags map[string]string) int {
	if _, check := flags["--check-runtime"]; check {
		asked := flags["--runtime"]
		if plays("podman") {
			if asked == "auto" {
				asked = "podman,process"
			}
			fmt.Printf(`{"runtimes":["%s"],"reason":"","cpus":8,"memory":9000000000}`+"\n", strings.ReplaceAll(asked, ",", `","`))
			return 0
		}
		if strings.Contains(asked, "podman") {
			fmt.Fprintln(os.Stderr, "podman: not found")
			return 1
		}
		fmt.Println(`{"runtimes":["process"],"reason":"podman: not found","cpus":2,"memory":3000}`)
		return 0
	}
	recordLife(flags)
	if plays(flags["--name"] + "-fails") {
		fmt.Fprintln(os.Stderr, "boom")
		return 3
	}
	ends := listenForEnd(flags)
	for joined := false; !joined; {
		select {
		case why := <-ends:
			return end(flags, why)
		default:
		}
		joined = true
		for at := range strings.SplitSeq(flags["--join"], ",") {
			resp, err := http.Post("http://"+at+"/join?name="+flags["--name"], "", nil)
			if err != nil {
				joined = false
				break
			}
			resp.Body.Close()
		}
	}
	fmt.Println(`{"grpc":"127.0.0.1:1","gossip":"127.0.0.1:2"}`)
	recordAddresses(flags, map[string]string{"grpc": "127.0.0.1:1"})
	return end(flags, <-ends)
}

// playUp runs Run until it is killed. text is the Config in JSON.
func playUp(text string) int {
	var cfg Config
	if err := json.Unmarshal([]byte(text), &struct {
		*Config
		Out, Lookup, Stop, Force any
	}{Config: &cfg}); err != nil {
		panic(err)
	}
	cfg.Out, cfg.Env = os.Stdout, os.Environ()
	if err := Run(context.Background(), cfg); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// programsDir returns a directory with the played programs.
func programsDir(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"controller", "worker", "up", "demo-server"} {
		if err := os.Symlink(exe, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// lives returns the processes of a program so far.
func lives(dataDir, program string) []life {
	b, err := os.ReadFile(filepath.Join(dataDir, program, "lives"))
	if err != nil {
		return nil
	}
	var out []life
	for line := range strings.Lines(string(b)) {
		var l life
		if json.Unmarshal([]byte(line), &l) == nil {
			out = append(out, l)
		}
	}
	return out
}

// eventually polls until condition returns "". After a timeout the test fails
// with the last reason.
func eventually(t *testing.T, condition func() string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		reason := condition()
		if reason == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long: %s", reason)
		}
	}
}

// output collects the output of Run.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
