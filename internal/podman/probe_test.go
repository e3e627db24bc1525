package podman

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenFallsBackToAConfigurationOfItsOwn(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "containers.conf")
	must(t, os.WriteFile(broken, []byte("[containers]\ndefault_ulimits = [\"nofile=1024:1024\"]\ndefault_capabilities = [\"NO_SUCH\"]\n[engine]\nruntime = \"no-such-runtime\"\n"), 0o600))
	r := open(t, func(cfg *Config) { cfg.Environ = append(os.Environ(), "CONTAINERS_CONF="+broken) })
	if r.mode.conf == "" || filepath.Dir(r.mode.conf) != r.dir {
		t.Fatalf("mode = %+v, want a configuration of its own", r.mode)
	}
	c := startOf(t, r, launchOf(t, r, "exit", "3"))
	if e := c.Exit(within(t, 10e9)); e.Code != 3 {
		t.Errorf("Exit = %+v", e)
	}
}

// A podman that uses CNI and lacks its plugins, as Debian's may, is configured to
// use netavark.
func TestOpenFindsNetavark(t *testing.T) {
	needPodman(t)
	if !netavarkInstalled() {
		t.Skip("needs netavark")
	}
	broken := filepath.Join(t.TempDir(), "containers.conf")
	must(t, os.WriteFile(broken, fmt.Appendf(nil, "[containers]\ndefault_ulimits = [\"nofile=1024:1024\"]\ndefault_sysctls = []\n"+
		"[engine]\nruntime = \"runc\"\n[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [%q]\n", t.TempDir()), 0o600))
	r := open(t, func(cfg *Config) { cfg.Environ = append(os.Environ(), "CONTAINERS_CONF="+broken) })
	if r.mode.conf == "" {
		t.Fatalf("mode = %+v, want a configuration of its own", r.mode)
	}
	conf, err := os.ReadFile(r.mode.conf)
	if err != nil || !strings.Contains(string(conf), `network_backend = "netavark"`) {
		t.Errorf("the configuration is %v\n%s", err, conf)
	}
}

func TestFailures(t *testing.T) {
	var f failures
	f.add("podman's own configuration", errors.New("no network"))
	f.add("one with runc", errors.New("no network"))
	f.add("one with crun", errors.New("no cgroups"))
	if want := "with podman's own configuration and with one with runc: no network; with one with crun: no cgroups"; f.String() != want {
		t.Errorf("got %q, want %q", f, want)
	}
	if !f.mention("cgroups") || f.mention("disk") {
		t.Error("it does not know what was mentioned")
	}
}

func TestOpenSaysWhyNot(t *testing.T) {
	needPodman(t)
	cfg := Config{Node: testNode(), DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	dir := t.TempDir()
	storage := filepath.Join(dir, "storage.conf")
	must(t, os.WriteFile(storage, fmt.Appendf(nil, "[storage]\ndriver = \"no-such-driver\"\ngraphroot = %q\nrunroot = %q\n", dir, dir), 0o600))
	cfg.Environ = append(slices.Clone(os.Environ()), "CONTAINERS_STORAGE_CONF="+storage)
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "podman cannot run a container on this host") || !strings.Contains(err.Error(), "no-such-driver") {
		t.Errorf("Open with a broken storage = %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "podman is not installed") {
		t.Errorf("Open without podman = %v", err)
	}
}
