package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// findMode tries the host's own configuration first, then ones of our own
// that ask for less, and keeps the first in which a container runs.
func (r *Runtime) findMode(ctx context.Context, relay bool) error {
	begin := time.Now()
	remote, arch := r.isRemote(ctx)
	own := "podman's own configuration"
	for _, kv := range r.environ {
		if v, ok := strings.CutPrefix(kv, "CONTAINERS_CONF="); ok && v != "" {
			own = "CONTAINERS_CONF=" + v
		}
	}
	var why []string
	for _, runtimeName := range []string{"", "runc", "crun"} {
		m := mode{init: true, relay: relay || remote, remote: remote}
		config := own
		if runtimeName != "" {
			if remote {
				break // the other side's configuration is not ours to write
			}
			if !installed(runtimeName) {
				continue
			}
			path, err := r.writeConf(runtimeName)
			if err != nil {
				return err
			}
			m.conf, config = path, "a generated configuration with "+runtimeName
		}
		m, err := r.tryMode(ctx, m, arch)
		if err == nil {
			r.mode = m
			r.removeProbes(m)
			r.log.Info("podman runs containers on this host", "configuration", config, "file", m.conf, "init", m.init,
				"stdio", stdioWord(m), "remote", m.remote, "took", time.Since(begin).Round(time.Millisecond))
			if m.relay && !relay && !remote {
				r.log.Warn("podman refuses passthrough pipes; a resident podman client relays each replica's stdio")
			}
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("podman: %w", context.Cause(ctx))
		}
		why = append(why, fmt.Sprintf("with %s: %v", config, err))
	}
	return fmt.Errorf("podman cannot run a container on this host: %s", strings.Join(why, "; "))
}

// removeProbes removes, now that podman works, what of earlier tries it could
// not remove under a configuration that does not. What remains all the same
// has a record, which the next sweep sees.
func (r *Runtime) removeProbes(m mode) {
	if m.conf == "" {
		return
	}
	for _, name := range r.recorded() {
		if strings.HasPrefix(name, "mcpfleet-probe-") {
			if err := r.remove(r.record(name), true); err != nil {
				r.log.Warn("a container of a failed try is left", "container", name, "err", err)
			}
		}
	}
}

func stdioWord(m mode) string {
	if m.relay {
		return "relayed"
	}
	return "passthrough"
}

func installed(program string) bool {
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	// Where podman looks, which an ordinary user's PATH may lack.
	return slices.ContainsFunc([]string{"/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"}, func(dir string) bool {
		return exists(filepath.Join(dir, program))
	})
}

// tryMode runs a container, and again with less where podman says what it
// lacks.
func (r *Runtime) tryMode(ctx context.Context, m mode, arch string) (mode, error) {
	for {
		r.mode = m
		err := r.probe(ctx, arch)
		if err == nil || ctx.Err() != nil {
			return m, err
		}
		switch said := err.Error(); {
		case m.init && (strings.Contains(said, "catatonit") || strings.Contains(said, "init binary") || strings.Contains(said, "container-init")):
			m.init = false
			r.log.Info("podman has no init for containers; a server without a handler ignores TERM and is killed", "reason", said)
		case !m.relay && strings.Contains(said, "passthrough"):
			m.relay = true
		default:
			return m, err
		}
	}
}

// probe runs one container the way replicas run and talks with it.
func (r *Runtime) probe(ctx context.Context, arch string) (err error) {
	program := echoProgram(arch)
	if program == nil {
		return fmt.Errorf("no program to try for architecture %s", arch)
	}
	l := fleet.Launch{
		Cluster: "probe", Node: r.node, Replica: fleet.NewReplicaID("probe", 1), Server: "probe", Revision: 1,
		Template: &fleet.Template{Entrypoint: []string{"/probe"}},
		Pulling:  func(string) {}, Starting: func() {},
	}
	var rootfs string
	if r.mode.remote {
		image, err := r.importImage(ctx, program)
		if err != nil {
			return err
		}
		defer func() {
			if _, rerr := r.query(context.WithoutCancel(ctx), "rmi", "--force", image); rerr != nil && err == nil {
				err = rerr
			}
		}()
		l.Template.Image = image
	} else {
		if rootfs, err = os.MkdirTemp(r.tmpDir(), "probe-"); err != nil {
			return err
		}
		defer os.RemoveAll(rootfs)
		if err := os.WriteFile(filepath.Join(rootfs, "probe"), program, 0o755); err != nil {
			return err
		}
	}
	c, err := r.start(ctx, l, rootfs)
	if err != nil {
		return err
	}
	defer closeAll([]*os.File{c.stdin, c.stdout, c.stderr})
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("the container does not answer"))
	defer cancel()
	err = converse(ctx, c)
	if rerr := c.Remove(context.WithoutCancel(ctx)); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

// converse wants back what it says, and an orderly end.
func converse(ctx context.Context, c *container) error {
	const word = "mcpfleet\n"
	deadline, _ := ctx.Deadline()
	_ = c.stdin.SetWriteDeadline(deadline) // a pipe of ours can
	_ = c.stdout.SetReadDeadline(deadline)
	if _, err := io.WriteString(c.stdin, word); err != nil {
		return fmt.Errorf("write to the container: %w", err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c.stdout, got); err != nil {
		_ = c.stderr.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		said, _ := io.ReadAll(io.LimitReader(c.stderr, 8<<10))
		return fmt.Errorf("read from the container: %w %s", err, reason(said))
	}
	c.stdin.Close()
	if string(got) != word {
		return fmt.Errorf("the container answered %q to %q", got, word)
	}
	if e := c.Exit(ctx); e.Code != 0 || e.Err != "" {
		return fmt.Errorf("container of the probe: %s", e)
	}
	return nil
}

// isRemote tells whether podman only passes orders on to another host, and
// that host's architecture. On Linux without a sign of it nobody is asked: it
// costs as much as a start.
func (r *Runtime) isRemote(ctx context.Context) (bool, string) {
	sign := runtime.GOOS != "linux" || strings.Contains(filepath.Base(r.bin), "remote")
	for _, kv := range r.environ {
		name, value, _ := strings.Cut(kv, "=")
		if value != "" && (name == "CONTAINER_HOST" || name == "CONTAINER_CONNECTION") {
			sign = true
		}
	}
	if !sign {
		return false, runtime.GOARCH
	}
	var info struct {
		Host struct {
			Arch            string
			ServiceIsRemote bool
		}
	}
	out, err := r.query(ctx, "info", "--format=json")
	if err != nil || json.Unmarshal(out, &info) != nil {
		return true, runtime.GOARCH // the probe will say what is wrong
	}
	return info.Host.ServiceIsRemote, info.Host.Arch
}

// importImage makes an image of the program alone.
func (r *Runtime) importImage(ctx context.Context, program []byte) (string, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(program))})
	if err == nil {
		_, err = w.Write(program)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("make image of the probe: %w", err)
	}
	f, err := os.CreateTemp(r.tmpDir(), "probe-*.tar")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b.Bytes())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	image := "localhost/mcpfleet-probe:" + r.owner.Life
	_, err = r.query(ctx, "import", f.Name(), image)
	return image, err
}

// writeConf writes a containers.conf for hosts that lack CAP_SYS_RESOURCE,
// where podman's default limits are refused, or whose cgroups the default
// runtime does not take.
func (r *Runtime) writeConf(runtimeName string) (string, error) {
	path := filepath.Join(r.dir, "containers-"+runtimeName+".conf")
	text := fmt.Sprintf(`[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
default_sysctls = []

[engine]
runtime = %q
`, runtimeName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write podman's configuration: %w", err)
	}
	return path, nil
}
