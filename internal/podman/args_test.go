package podman

import (
	"errors"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

func plain() (*Runtime, fleet.Launch) {
	r := &Runtime{node: "n1", dir: "/data/podman", mode: mode{init: true}}
	return r, fleet.Launch{Cluster: "c1", Node: "n1", Replica: "time-3-ab12", Server: "time", Revision: 3,
		Template: &fleet.Template{Image: "docker.io/mcp/time"}}
}

func TestCreateArguments(t *testing.T) {
	r, l := plain()
	l.Template.Args = []string{"--local", "-v"}
	l.Template.Resources = fleet.Resources{CPUs: 0.5, Memory: 512 << 20, PIDs: 256}
	l.Template.Mounts = []fleet.Mount{{Source: "/a", Target: "/b"}, {Source: "notes", Target: "/z", ReadOnly: true, SELinux: "Z"}}
	l.Template.RunOptions = []string{"--shm-size=1g"}
	l.Template.Devices = []string{"/dev/fuse:/dev/fuse:rw", "nvidia.com/gpu=all"}
	l.Template.Network, l.Template.User, l.Template.Cwd = "none", "1000:1000", "/srv"
	l.Template.ReadOnly, l.Template.CapAdd = true, []string{"CHOWN", "SETUID"}
	rec := r.record(containerName(l))
	c, err := r.create(l, rec, "")
	if err != nil {
		t.Fatal(err)
	}
	if rec.name != "mcpfleet-c1-n1-time-3-ab12" {
		t.Errorf("name = %q", rec.name)
	}
	for _, want := range []string{
		"--detach", "--interactive", "--log-driver=passthrough", "--name=mcpfleet-c1-n1-time-3-ab12", "--pull=never", "--init",
		"--cidfile=/data/podman/containers/mcpfleet-c1-n1-time-3-ab12/cid", "--label=mcpfleet.cluster=c1", "--label=mcpfleet.node=n1",
		"--label=mcpfleet.replica=time-3-ab12", "--label=mcpfleet.server=time", "--label=mcpfleet.revision=3",
		"--cap-drop=all", "--cap-add=CHOWN", "--cap-add=SETUID", "--security-opt=no-new-privileges", "--memory=536870912b",
		"--memory-swap=536870912b", "--cpus=0.5", "--pids-limit=256", "--read-only", "--user=1000:1000", "--workdir=/srv",
		"--network=none", "--volume=/a:/b", "--volume=notes:/z:ro,Z", "--shm-size=1g", "--http-proxy=false",
		"--device=/dev/fuse:/dev/fuse:rw", "--device=nvidia.com/gpu=all",
	} {
		if !slices.Contains(c.args, want) {
			t.Errorf("no %s in %q", want, c.args)
		}
	}
	if got := c.args[len(c.args)-3:]; !slices.Equal(got, []string{"docker.io/mcp/time", "--local", "-v"}) {
		t.Errorf("ends with %q", got)
	}
	if slices.Contains(c.args, "--rm") {
		t.Error("--rm would lose the exit code")
	}
}

func TestCreateLeavesOutWhatIsNotAsked(t *testing.T) {
	r, l := plain()
	l.Template.NewPrivileges = true
	c, err := r.create(l, r.record(containerName(l)), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range c.args {
		for _, no := range []string{"--memory", "--cpus", "--pids-limit", "--security-opt", "--network", "--user", "--workdir", "--entrypoint", "--env", "--read-only", "--device"} {
			if strings.HasPrefix(a, no) {
				t.Errorf("unasked %s", a)
			}
		}
	}
}

// Podman refuses to drop all capabilities and add all at once.
func TestAllCapabilities(t *testing.T) {
	r, l := plain()
	l.Template.CapAdd = []string{"ALL"}
	c, err := r.create(l, r.record(containerName(l)), "")
	if err != nil || !slices.Contains(c.args, "--cap-add=ALL") || slices.Contains(c.args, "--cap-drop=all") {
		t.Errorf("got %q, %v", c.args, err)
	}
}

// Every option that a fleet file may set can be passed to podman.
func FuzzCreateTakesWhatFleetfileAccepts(f *testing.F) {
	for _, seed := range []string{
		`{"image": "x", "mounts": ["notes:/data", "/a:/b:ro,z", {"source": "v", "target": "/c", "selinux": "Z"}]}`,
		`{"image": "x", "mounts": ["/a:/b:/c", "a b:/c", ":/c", "/a:b", "../x:/y", "/a:/", "/a,b:/c", "v:/d/", "v:/d"]}`,
		`{"image": "x", "mounts": [{"source": "/a:b", "target": "/c"}]}`, `{"image": "x", "mounts": [{"source": "/a\n", "target": "/c"}]}`,
		`{"image": "x", "cap_add": ["all", "cap_chown"], "run_options": ["--shm-size=1g", "--add-host=a:1.2.3.4"], "env": {"PATH": "/x", "A": "b"}}`,
		`{"type": "stdio", "command": "docker", "args": ["run", "-v", "notes:/data:Z", "--cap-drop", "all", "--tmpfs=/x", "--hostname", "h", "x", "y"]}`,
		`{"image": "x", "entrypoint": ["a", ""], "user": "1:1", "cwd": "/w", "network": "none", "read_only": true, "resources": {"memory": "6m", "cpus": 0.1, "pids": 1}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		spec, _, err := fleetfile.ParseServer("x", []byte(text), fleetfile.Options{Filename: "body.json"})
		if err != nil || spec.Image == "" {
			return
		}
		r, l := plain()
		l.Template = &spec.Template
		if err := checkImage(l.Template); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if _, err := r.create(l, r.record(containerName(l)), ""); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// Podman refuses quotas under a millisecond. A replica may reserve less.
func TestLeastCPUs(t *testing.T) {
	r, l := plain()
	l.Template.Resources.CPUs = 0.0001
	c, err := r.create(l, r.record(containerName(l)), "")
	if err != nil || !slices.Contains(c.args, "--cpus=0.01") {
		t.Errorf("got %q, %v", c.args, err)
	}
}

func TestEntrypointWords(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"/bin/x"}, `--entrypoint=["/bin/x"]`},
		{[]string{"node", `a "b"`}, `--entrypoint=["node","a \"b\""]`},
		{[]string{}, "--entrypoint="},
	} {
		r, l := plain()
		l.Template.Entrypoint = c.words
		got, err := r.create(l, r.record(containerName(l)), "")
		if err != nil || !slices.Contains(got.args, c.want) {
			t.Errorf("%q: %q, %v; want %s", c.words, got.args, err, c.want)
		}
	}
}

func TestConmonOf(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		line, name, id string
	}{
		{"/usr/bin/conmon --api-version 1 -c " + id + " -u " + id + " -n mcpfleet-a --exit-command /usr/bin/podman --exit-command-arg -n other", "mcpfleet-a", id},
		{"conmon -n mcpfleet-a -c short", "mcpfleet-a", ""},
		{"/usr/bin/other -n mcpfleet-a -c " + id, "", ""},
		{"conmon", "", ""},
	} {
		if name, got := conmonOf(strings.Fields(c.line)); name != c.name || got != c.id {
			t.Errorf("%s: %q, %q", c.line, name, got)
		}
	}
	if name, _ := conmonOf(nil); name != "" {
		t.Errorf("no words: %q", name)
	}
}

func TestReason(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, c := range []struct{ said, want string }{
		{"", ""},
		{"WARN something\nError: no such thing\n", "no such thing"},
		{"one\ntwo\n\nthree\nfour\n", "two; three; four"},
		{"Error: " + long, long[:600] + "..."},
	} {
		if got := reason([]byte(c.said)); got != c.want {
			t.Errorf("reason(%.40q) = %.60q, want %.60q", c.said, got, c.want)
		}
	}
}

func TestHints(t *testing.T) {
	for _, c := range []struct {
		said string
		code int
		want string
	}{
		{"chown: changing ownership of '/data': Operation not permitted", 1, "cap_add"},
		{"su: cannot set groups: Operation not permitted", 1, "cap_add"},
		{"error: failed switching to \"node\": operation not permitted", 1, "cap_add"},
		{"crun: executable file `x` not found in $PATH", 127, "no such command"},
		{"ERROR (catatonit:6): failed to exec pid1: No such file or directory", 1, "no such command: see entrypoint and args; it may also be a script with Windows line endings"},
		{"ERROR (catatonit:6): failed to exec pid1: Permission denied", 1, "cannot be run"},
		{"permission denied", 126, "not executable"},
		{"mkdir /var/lib/containers/storage/overlay/x: no space left on device", 126, "file system of this node is full"},
		{"unable to find user node: no matching entries in passwd file", 126, "no such user"},
		{"runc create failed: error setting rlimits for ready process: error setting rlimit type 7: operation not permitted", 126, "--ulimit"},
		{"exec /server: exec format error", 1, "another architecture"},
		{"short-name \"x\" did not resolve to an alias", 125, "docker.io/"},
		{"unauthorized: authentication required", 125, "authfile"},
		{"Error: EACCES: permission denied, open '/data/x'", 1, "cap_add: [DAC_OVERRIDE]"},
		{"PermissionError: [Errno 13] Permission denied: '/data'", 1, "cap_add: [DAC_OVERRIDE]"},
		{`plugin type="bridge" failed (add): failed to find plugin "bridge" in path [/opt/cni/bin]`, 126, "install netavark"},
		{`could not find slirp4netns, the network namespace can't be configured: exec: "slirp4netns": executable file not found in $PATH`, 127, "install it"},
		{"API key missing", 1, ""},
	} {
		got := hint(&fleet.Template{}, c.said, c.code)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("hint(%q, %d) = %q, want %q", c.said, c.code, got, c.want)
		}
	}
}

func TestHintAtMounts(t *testing.T) {
	mounts := []fleet.Mount{{Source: "/a", Target: "/data"}}
	for _, c := range []struct {
		said string
		caps []string
		want string
	}{
		{"EACCES: permission denied, scandir '/data'", nil, "other users' files (perhaps those under /data), as it can with docker run; set cap_add: [DAC_OVERRIDE], or user: to their owner"},
		{"EACCES: permission denied, scandir '/data'", []string{"DAC_OVERRIDE"}, ""},
		{"EACCES: permission denied, scandir '/data'", []string{"ALL"}, ""},
		{"Error: statfs /a: no such file or directory", nil, "the source of a mount does not exist on this node"},
	} {
		got := hint(&fleet.Template{Mounts: mounts, CapAdd: c.caps}, c.said, 1)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s with %q: %q, want %q", c.said, c.caps, got, c.want)
		}
	}
}

func TestHintAtDevices(t *testing.T) {
	for _, c := range []struct {
		said string
		code int
		want string
	}{
		{"Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all", 126, "a device does not exist on this node"},
		{"Error: stat /dev/ttyUSB0: no such file or directory", 125, "a device does not exist on this node"},
		{"stat /dev/other: no such file or directory", 1, ""},
	} {
		got := hint(&fleet.Template{Devices: []string{"nvidia.com/gpu=all", "/dev/ttyUSB0:/dev/tty0:rw"}}, c.said, c.code)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("hint(%q, %d) = %q, want %q", c.said, c.code, got, c.want)
		}
	}
}

func TestClientErrorsKeepTheirKind(t *testing.T) {
	err := newClientError("run", exec.Command("sh", "-c", "exit 125").Run(), []byte("Error: image not known"))
	ce := (*clientError)(nil)
	if !errors.As(err, &ce) || ce.code != 125 || !isImageUnknown(err) {
		t.Errorf("%v: %+v", err, ce)
	}
	err = newClientError("run", exec.Command("sh", "-c", "kill -9 $$").Run(), nil)
	if !errors.As(err, &ce) || ce.signal == "" || !strings.Contains(err.Error(), "itself killed") {
		t.Errorf("%v: %+v", err, ce)
	}
	if err := newClientError("run", nil, []byte("a warning")); err != nil {
		t.Errorf("a client that ended well: %v", err)
	}
}

func TestEchoProgramsAreWhatTheyWere(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		if p := echoProgram(arch); len(p) < 120 || string(p[:4]) != "\x7fELF" {
			t.Errorf("%s: % x", arch, p)
		}
	}
	if p := echoProgram("pdp11"); p != nil {
		t.Errorf("a program for pdp11: % x", p)
	}
	if echoProgram(runtime.GOARCH) == nil {
		t.Skip("no program for this architecture")
	}
}
