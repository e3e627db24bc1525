package podman

import (
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
