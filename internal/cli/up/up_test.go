package up

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// running is a Run in a goroutine of its own.
type running struct {
	t     *testing.T
	cfg   Config
	out   *output
	stop  chan struct{}
	force chan struct{}
	err   chan error
}

// noSleepAtExit makes programs with the race detector exit a second faster.
const noSleepAtExit = "GORACE=atexit_sleep_ms=0"

func begin(t *testing.T, play string, edit func(*Config)) *running {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	r := &running{t: t, out: &output{}, stop: make(chan struct{}), force: make(chan struct{}), err: make(chan error, 1)}
	r.cfg = Config{
		Workers: 3, Runtime: "auto", HTTP: "127.0.0.1:0", DataDir: t.TempDir(), BinDir: programsDir(t), Out: r.out,
		Env: append(os.Environ(), "PLAY="+play, noSleepAtExit), Stop: r.stop, Force: r.force,
	}
	if edit != nil {
		edit(&r.cfg)
	}
	go func() { r.err <- Run(t.Context(), r.cfg) }()
	return r
}

func (r *running) untilPrinted(text string) {
	r.t.Helper()
	eventually(r.t, func() string {
		if strings.Contains(r.out.String(), text) {
			return ""
		}
		return fmt.Sprintf("want %q in the output:\n%s", text, r.out)
	})
}

// ended waits for the end of Run, and checks that all children are gone.
func (r *running) ended() error {
	r.t.Helper()
	select {
	case err := <-r.err:
		for _, name := range []string{"controller", "controller-1", "controller-2", "controller-3", "worker-1", "worker-2", "worker-3"} {
			for _, l := range lives(r.cfg.DataDir, name) {
				if p, alive := proctab.Find(l.PID); alive && p.Parent == os.Getpid() {
					r.t.Errorf("%s is still there as process %d", name, l.PID)
				}
			}
		}
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatalf("Run does not end; its output:\n%s", r.out)
		return nil
	}
}

var firstURL = regexp.MustCompile(`http://\S*`)

func TestRunUntilStopped(t *testing.T) {
	r := begin(t, "", nil)
	r.untilPrinted("curl -s")
	controller := lives(r.cfg.DataDir, "controller")[0]
	text := r.out.String()
	url := firstURL.FindString(text)
	if !strings.Contains(text, "mcpfleet is ready: "+url+"\n") || strings.HasSuffix(url, ":0") {
		t.Errorf("the first URL is %q in\n%s", url, text)
	}
	if want := `curl -s ` + url + `/call -H 'Content-Type: application/json' -d '{"tool_name":"echo","tool_args":{"text":"hello"}}'`; !strings.Contains(text, want) {
		t.Errorf("want %s in\n%s", want, text)
	}
	if !strings.Contains(text, "without isolation") {
		t.Errorf("does not say that processes are not isolated:\n%s", text)
	}
	if got := controller.Flags["--config"]; got != filepath.Join(r.cfg.DataDir, "demo-fleet.json") {
		t.Errorf("the controller reads %s", got)
	}
	worker := lives(r.cfg.DataDir, "worker-3")[0].Flags
	if got := worker["--runtime"]; got != "process" {
		t.Errorf("workers have --runtime %s, want what was found to work", got)
	}
	if worker["--cpus"] != "0.66" || worker["--memory"] != "1000" {
		t.Errorf("each of 3 workers offers %s CPUs and %s bytes of a machine with 2 and 3000", worker["--cpus"], worker["--memory"])
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	r.endedFor("TERM", "controller")
	r.endedFor("lifeline", "worker-1", "worker-2", "worker-3")
}

// endedFor checks why programs ended.
func (r *running) endedFor(want string, names ...string) {
	r.t.Helper()
	for _, name := range names {
		if end, err := os.ReadFile(filepath.Join(r.cfg.DataDir, name, "end")); string(end) != want {
			r.t.Errorf("%s ended for %q, %v; want %s", name, end, err, want)
		}
	}
}

// Several controllers find each other. One that dies is restarted at the
// addresses that it had, and joins the others.
func TestRunSeveralControllers(t *testing.T) {
	r := begin(t, "", func(c *Config) { c.Controllers = 3 })
	r.untilPrinted("mcpfleet is ready")
	names := []string{"controller-1", "controller-2", "controller-3"}
	url := firstURL.FindString(r.out.String())
	gossip := map[string]string{}
	for i, name := range names {
		flags := lives(r.cfg.DataDir, name)[0].Flags
		gossip[name] = addressesOf(t, r.cfg.DataDir, name)["gossip"]
		if flags["--bootstrap-expect"] != "3" || flags["--http"] != "127.0.0.1:0" {
			t.Errorf("%s was started with %v", name, flags)
		}
		if join := flags["--join"]; (i == 0) != (join == "") || i > 0 && !strings.Contains(join, gossip["controller-1"]) {
			t.Errorf("%s joins %q", name, join)
		}
	}
	if want := addressesOf(t, r.cfg.DataDir, "controller-1")["http"]; url != "http://"+want {
		t.Errorf("announced %s, the first controller is at %s", url, want)
	}
	join := lives(r.cfg.DataDir, "worker-1")[0].Flags["--join"]
	if want := gossip["controller-1"] + "," + gossip["controller-2"] + "," + gossip["controller-3"]; join != want {
		t.Errorf("workers join %s, want %s", join, want)
	}

	before := addressesOf(t, r.cfg.DataDir, "controller-1")
	if err := syscall.Kill(lives(r.cfg.DataDir, "controller-1")[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string { return hadLives(r.cfg.DataDir, "controller-1", 2) })
	flags := lives(r.cfg.DataDir, "controller-1")[1].Flags
	for _, flag := range []string{"http", "gossip", "raft"} {
		if flags["--"+flag] != before[flag] {
			t.Errorf("the first controller is back with --%s %s, had %s", flag, flags["--"+flag], before[flag])
		}
	}
	if want := gossip["controller-2"] + "," + gossip["controller-3"]; flags["--join"] != want {
		t.Errorf("the first controller is back and joins %q, want %s", flags["--join"], want)
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	r.endedFor("lifeline", "worker-1", "worker-2", "worker-3")

	// Without a file and a number, the same controllers run again.
	again := begin(t, "", func(c *Config) { c.DataDir, c.Controllers = r.cfg.DataDir, 0 })
	again.untilPrinted("mcpfleet is ready")
	for _, name := range names {
		if why := hadLives(r.cfg.DataDir, name, 2); why != "" {
			t.Error(why)
		}
	}
	close(again.stop)
	if err := again.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func hadLives(dataDir, name string, want int) string {
	if n := len(lives(dataDir, name)); n < want {
		return fmt.Sprintf("%s had %d lives", name, n)
	}
	return ""
}

// Where podman works, workers offer podman and plain processes, and the file may
// need both. --memory takes precedence over an equal share.
func TestRunOffersBothRuntimes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte("servers: {x: {command: [y]}, z: {image: z, resources: {cpus: 5, memory: 1g}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := begin(t, "podman,same", func(c *Config) { c.File, c.Memory = file, "512m" })
	r.untilPrinted("mcpfleet is ready")
	want := "runtime podman,process: images run in containers; commands run as plain processes, without isolation\n" +
		"no room: z wants 5 cpus and each of 3 workers offers 2.66; z wants 1024 MiB of memory and each of 3 workers offers 512; use fewer --workers, or set --cpus and --memory\n"
	if !strings.HasPrefix(r.out.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	flags := lives(r.cfg.DataDir, "worker-2")[0].Flags
	if flags["--runtime"] != "podman,process" || flags["--cpus"] != "2.66" || flags["--memory"] != "536870912" {
		t.Errorf("a worker was started with %v", flags)
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Without podman, up names the servers with images and runs the others.
func TestRunServesWhatItCan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte("servers: {x: {command: [y]}, w: {image: w}, v: {image: v}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := begin(t, "same", func(c *Config) { c.File = file })
	r.untilPrinted("mcpfleet is ready")
	want := "runtime process: images cannot run: podman: not found; commands run as plain processes, without isolation\n" +
		"2 of 3 servers cannot run here: v, w: an image needs podman (podman: not found)\n"
	if !strings.HasPrefix(r.out.String(), want) {
		t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// up runs a client's file without the servers that have errors, and prints each
// warning once.
func TestRunServesAClientsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mcp.json")
	text := `{"mcpServers": {"x": {"command": "y", "icon": "i"}, "bad": {"command": "npx -y z"}, "far": {"url": "http://x"}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := begin(t, "same", func(c *Config) { c.File = file })
	r.untilPrinted("mcpfleet is ready")
	for _, want := range []string{
		"warning: " + file + ": remote servers are left out, since mcpfleet runs stdio servers: far\n",
		"warning: " + file + ": keys that mean nothing here are ignored: icon (x)\n",
		"warning: " + file + ":1:72: mcpServers.bad: this server is left out: command: has the arguments in the same string; move them to args: \"command\": \"npx\", \"args\": [\"-y\", \"z\"]\n",
	} {
		if n := strings.Count(r.out.String(), want); n != 1 {
			t.Errorf("printed %d times, want once: %s\n%s", n, want, r.out)
		}
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// up resumes a data directory with the servers and the --runtime that it had.
// The demo server runs only if it ran there before.
func TestRunResumes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	if err := os.WriteFile(file, []byte("servers: {x: {command: [y]}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := begin(t, "same", func(c *Config) { c.File, c.Workers, c.Runtime = file, 1, "process" })
	r.untilPrinted("mcpfleet is ready")
	if strings.Contains(r.out.String(), "was not applied") {
		t.Errorf("printed\n%s", r.out)
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if got := lives(r.cfg.DataDir, "controller")[0].Flags["--config"]; got != file {
		t.Errorf("the controller reads %s", got)
	}
	again := begin(t, "podman", func(c *Config) { c.DataDir, c.Workers, c.Runtime = r.cfg.DataDir, 1, "" })
	again.untilPrinted("mcpfleet is ready")
	close(again.stop)
	if err := again.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if flags := lives(r.cfg.DataDir, "controller")[1].Flags; flags["--config"] != "" {
		t.Errorf("resumed with %v", flags)
	}
	if text := again.out.String(); !strings.Contains(text, "runtime process: commands run as plain processes, without isolation (--runtime as before in this data directory)\n") || !strings.Contains(text, "resuming the servers deployed in "+r.cfg.DataDir) {
		t.Errorf("printed\n%s", text)
	}

	other := begin(t, "", func(c *Config) { c.DataDir, c.Workers, c.File = r.cfg.DataDir, 1, file })
	other.untilPrinted("mcpfleet is ready")
	url := strings.TrimPrefix(firstURL.FindString(other.out.String()), "http://")
	if want := file + " was not applied: the data directory has a fleet already, and the file differs from it; to apply the file: mcpfleet --address " + url + " apply -f " + file + " --prune\n"; !strings.Contains(other.out.String(), want) {
		t.Errorf("want %s in\n%s", want, other.out)
	}
	close(other.stop)
	if err := other.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}

	demo := begin(t, "", func(c *Config) { c.Workers = 1 })
	demo.untilPrinted("mcpfleet is ready")
	close(demo.stop)
	if err := demo.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	demo2 := begin(t, "", func(c *Config) { c.DataDir, c.Workers = demo.cfg.DataDir, 1 })
	demo2.untilPrinted("mcpfleet is ready")
	close(demo2.stop)
	if err := demo2.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := lives(demo.cfg.DataDir, "controller")[1].Flags["--config"]; got != demoPath(demo.cfg.DataDir) {
		t.Errorf("the demo server is resumed with --config %q", got)
	}
}

func TestRunWithoutDataDir(t *testing.T) {
	r := begin(t, "", func(c *Config) { c.DataDir = "" })
	r.untilPrinted("mcpfleet is ready")
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*")); len(left) != 1 {
		t.Errorf("want one temporary directory, got %v", left)
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if left, _ := os.ReadDir(os.TempDir()); len(left) != 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

func TestRunStartsTheDeadAgain(t *testing.T) {
	r := begin(t, "", nil)
	r.untilPrinted("mcpfleet is ready")
	url := firstURL.FindString(r.out.String())
	for _, name := range []string{"controller", "worker-2"} {
		first := lives(r.cfg.DataDir, name)[0]
		if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() string {
			if n := len(lives(r.cfg.DataDir, name)); n < 2 {
				return fmt.Sprintf("%s had %d lives", name, n)
			}
			return ""
		})
	}
	r.untilPrinted("worker-2 died: killed by SIGKILL\nrestarting worker-2 in 200ms")
	controllers := lives(r.cfg.DataDir, "controller")
	if got := "http://" + controllers[1].Flags["--http"]; got != url {
		t.Errorf("the controller is back at %s, was at %s", got, url)
	}
	join := lives(r.cfg.DataDir, "worker-2")[0].Flags["--join"]
	if got := controllers[1].Flags["--gossip"]; got != join || strings.HasSuffix(got, ":0") {
		t.Errorf("the controller gossips at %s, workers join %s", got, join)
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestRunReportsWhyAChildDoesNotStart(t *testing.T) {
	tests := []struct{ play, want string }{
		{"controller-fails", "controller did not start: exit code 1\n  see http://example.com\n  listen: address already in use"},
		{"worker-2-fails", "worker-2 did not start: exit code 3\n  boom"},
	}
	for _, tt := range tests {
		t.Run(tt.play, func(t *testing.T) {
			r := begin(t, tt.play, nil)
			if err := r.ended(); err == nil || err.Error() != tt.want {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
	t.Run("runtime", func(t *testing.T) {
		r := begin(t, "", func(c *Config) { c.Runtime = "podman" })
		if err := r.ended(); err == nil || err.Error() != "--runtime podman: exit code 1\n  podman: not found" {
			t.Errorf("got %v", err)
		}
	})
}

// A port in use is reported before anything starts, with the flag and a fix.
func TestRunRefusesATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := begin(t, "", func(c *Config) { c.HTTP = l.Addr().String() })
	want := "--http: another program listens at " + l.Addr().String() + " (address already in use): stop it, or choose another port, such as --http 127.0.0.1:8001"
	if err := r.ended(); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if n := len(lives(r.cfg.DataDir, "controller")); n != 0 {
		t.Errorf("the controller was started %d times", n)
	}
}

// Without --workers, as many workers run as before. With fewer workers, up says
// what the controllers wait for.
func TestRunResumesItsWorkers(t *testing.T) {
	r := begin(t, "", func(c *Config) { c.Workers = 2 })
	dir := r.cfg.DataDir
	for i, tt := range []struct {
		workers int
		want    string // in the output
		lives   int    // of worker-2 since the beginning
	}{
		{lives: 1},
		{workers: 0, lives: 2},
		{workers: 1, lives: 2, want: "worker-2 ran here before but does not run now"},
		{workers: 0, lives: 2},
	} {
		if i > 0 {
			r = begin(t, "", func(c *Config) { c.DataDir, c.Workers = dir, tt.workers })
		}
		r.untilPrinted("mcpfleet is ready")
		close(r.stop)
		if err := r.ended(); err != nil {
			t.Fatalf("Run: %v", err)
		}
		if n := len(lives(dir, "worker-2")); n != tt.lives || len(lives(dir, "worker-3")) > 0 {
			t.Errorf("run %d: worker-2 had %d lives, want %d", i, n, tt.lives)
		}
		hinted := strings.Contains(r.out.String(), "ran here before")
		if hinted != (tt.want != "") || !strings.Contains(r.out.String(), tt.want) {
			t.Errorf("run %d: want %q in\n%s", i, tt.want, r.out)
		}
	}
}

func TestRunReadsTheFileFirst(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"wrong", "servers: {x: {image: y, replcas: 1}}", "fleet.yaml:1:25: servers.x.replcas: unknown key; did you mean replicas?"},
		{"nothing can run", "servers: {x: {image: y}}", "no server can start: x: an image needs podman (podman: not found)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "fleet.yaml")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := begin(t, "", func(c *Config) { c.File = file })
			if err := r.ended(); err == nil || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if n := len(lives(r.cfg.DataDir, "controller")); n != 0 {
				t.Errorf("the controller was started %d times", n)
			}
		})
	}
}

// The second signal kills children that ignore the first.
func TestRunKillsAtTheSecondSignal(t *testing.T) {
	r := begin(t, "deaf,busy", nil)
	r.untilPrinted("mcpfleet is ready")
	began := time.Now()
	close(r.stop)
	r.untilPrinted("stopping: 2 calls are under way and have 5 s to end; press Ctrl-C again to stop at once\n")
	close(r.force)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took >= stopTimeout {
		t.Errorf("took %s: the second signal had no effect", took)
	}
	if !strings.HasSuffix(r.out.String(), forceText+"\n") {
		t.Errorf("want %q at the end of\n%s", forceText, r.out)
	}
}

// The second signal makes workers stop without waiting, but gives them time to
// stop what they run.
func TestRunHastensWorkersAtTheSecondSignal(t *testing.T) {
	r := begin(t, "patient", nil)
	r.untilPrinted("mcpfleet is ready")
	close(r.stop)
	close(r.force)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if end, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "worker-1", "end")); string(end) != "TERM" {
		t.Errorf("worker-1 ended for %q, %v", end, err)
	}
}

// When up itself is killed, its children stop at the end of the lifeline. A new
// up in the same directory waits for them.
func TestChildrenOfAKilledRunStop(t *testing.T) {
	dir, bin := t.TempDir(), programsDir(t)
	config, err := json.Marshal(map[string]any{"Workers": 2, "Runtime": "process", "HTTP": "127.0.0.1:0", "DataDir": dir, "BinDir": bin})
	if err != nil {
		t.Fatal(err)
	}
	var out output
	cmd := exec.Command(filepath.Join(bin, "up"), string(config))
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, append(os.Environ(), noSleepAtExit)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := func() string {
		if strings.Contains(out.String(), "mcpfleet is ready") {
			return ""
		}
		return "not ready: " + out.String()
	}
	eventually(t, ready)

	second := begin(t, "", func(c *Config) { c.DataDir = dir })
	if err := second.ended(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by pid %d", cmd.Process.Pid)) {
		t.Errorf("a second up in the same directory: %v", err)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	third := begin(t, "", func(c *Config) { c.DataDir = dir; c.Workers = 2 })
	third.untilPrinted("mcpfleet is ready")
	for _, name := range []string{"controller", "worker-1", "worker-2"} {
		if end, err := os.ReadFile(filepath.Join(dir, name, "end")); string(end) != "lifeline" {
			t.Errorf("%s ended for %q, %v; want the lifeline", name, end, err)
		}
	}
	close(third.stop)
	if err := third.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// up keeps running and restarts children when its output has lost its reader.
func TestRunOutlivesItsReader(t *testing.T) {
	dir, bin := t.TempDir(), programsDir(t)
	config, err := json.Marshal(map[string]any{"Workers": 1, "Runtime": "process", "HTTP": "127.0.0.1:0", "DataDir": dir, "BinDir": bin})
	if err != nil {
		t.Fatal(err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command(filepath.Join(bin, "up"), string(config))
	cmd.Stdout, cmd.Stderr, cmd.Env = write, write, append(os.Environ(), noSleepAtExit)
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("up has ended: %v", err)
		}
		cmd.Wait()
		for _, name := range []string{"controller", "worker-1"} {
			eventually(t, func() string {
				if end, err := os.ReadFile(filepath.Join(dir, name, "end")); string(end) != "lifeline" {
					return fmt.Sprintf("%s ended for %q, %v; want the lifeline", name, end, err)
				}
				return ""
			})
		}
	}()
	for lines := bufio.NewScanner(read); ; {
		if !lines.Scan() {
			t.Fatalf("up is not ready: %v", lines.Err())
		}
		if strings.Contains(lines.Text(), "mcpfleet is ready") {
			break
		}
	}
	read.Close()
	at := filepath.Join(dir, "worker-1", "at")
	started := func() string { // a worker that dies before this is not restarted
		if _, err := os.Stat(at); err != nil {
			return err.Error()
		}
		return ""
	}
	eventually(t, started)
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(lives(dir, "worker-1")[0].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, started)
	if n := len(lives(dir, "worker-1")); n != 2 {
		t.Errorf("the worker had %d lives, want 2", n)
	}
}

func TestValidate(t *testing.T) {
	const loopback = "127.0.0.1:0"
	for _, good := range []Config{
		{Workers: 1, Runtime: "auto", HTTP: loopback}, {Workers: 1, Runtime: "auto", HTTP: "[::1]:0", Controllers: 9},
		{Workers: 1, Runtime: "auto", HTTP: "localhost:0"}, {Workers: 1, Runtime: "auto", HTTP: ":0", Insecure: true},
		{Workers: 1, Runtime: "process,podman", HTTP: loopback, CPUs: 0.5, Memory: "4g"},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("refused %+v: %v", good, err)
		}
	}
	for _, tt := range []struct {
		flag string
		bad  Config
	}{
		{"--workers", Config{Workers: 65, Runtime: "auto", HTTP: loopback}},
		{"--runtime", Config{Workers: 1, Runtime: "docker", HTTP: loopback}},
		{"--runtime", Config{Workers: 1, Runtime: "podman,auto", HTTP: loopback}},
		{"--cpus", Config{Workers: 1, HTTP: loopback, CPUs: -1}},
		{"--memory", Config{Workers: 1, HTTP: loopback, Memory: "lots"}},
		{"--memory", Config{Workers: 1, HTTP: loopback, Memory: "0"}},
		{"--http", Config{Workers: 1, Runtime: "auto", HTTP: "8000"}},
		{"--http", Config{Workers: 1, Runtime: "auto", HTTP: ":0"}},
		{"--http", Config{Workers: 1, Runtime: "auto", HTTP: "192.0.2.1:0"}},
		{"--http", Config{Workers: 1, Runtime: "auto", HTTP: "a.example:0"}},
		{"--controllers", Config{Workers: 1, Runtime: "auto", HTTP: loopback, Controllers: 10}},
		{"--controllers", Config{Workers: 1, Runtime: "auto", HTTP: loopback, Controllers: -1}},
		{"--allowed-hosts", Config{Workers: 1, Runtime: "auto", HTTP: loopback, AllowedHosts: []string{"https://a.example"}}},
	} {
		if err := tt.bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), tt.flag+" must be") && !strings.HasPrefix(err.Error(), tt.flag+": ") {
			t.Errorf("%+v: got %v", tt.bad, err)
		}
	}
}
