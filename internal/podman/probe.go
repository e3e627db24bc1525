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
	var why failures
	for _, try := range []generated{{}, {"runc", false}, {"runc", true}, {"crun", false}, {"crun", true}} {
		m := mode{init: true, relay: relay || remote, remote: remote}
		config := own
		if try.runtime != "" {
			if remote {
				break // the other side's configuration is not ours to write
			}
			// Without the plugins of CNI only netavark can help.
			needsNetavark := why.mention("failed to find plugin") && netavarkInstalled()
			if !installed(try.runtime) || try.netavark != needsNetavark {
				continue
			}
			path, err := r.writeConf(try)
			if err != nil {
				return err
			}
			m.conf, config = path, try.String()
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
		why.add(config, err)
	}
	return fmt.Errorf("podman cannot run a container on this host: %s", why.String())
}

// generated says what is in a configuration that we write; the zero value is
// the host's own.
type generated struct {
	runtime  string
	netavark bool
}

func (g generated) String() string {
	s := "a generated configuration with " + g.runtime
	if g.netavark {
		s += " and netavark"
	}
	return s
}

// failures are why no container ran, by the configurations that were tried.
type failures []struct{ config, why string }

// add notes a failure. Configurations that failed for the same reason share it.
func (f *failures) add(config string, err error) {
	if n := len(*f); n > 0 && (*f)[n-1].why == err.Error() {
		(*f)[n-1].config += " and with " + config
		return
	}
	*f = append(*f, struct{ config, why string }{config, err.Error()})
}

func (f failures) mention(text string) bool {
	return slices.ContainsFunc(f, func(one struct{ config, why string }) bool { return strings.Contains(one.why, text) })
}

func (f failures) String() string {
	parts := make([]string, len(f))
	for i, one := range f {
		parts[i] = fmt.Sprintf("with %s: %s", one.config, one.why)
	}
	return strings.Join(parts, "; ")
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

// netavarkInstalled reports whether podman has netavark for its networks, in
// one of the places where it looks for its helpers.
func netavarkInstalled() bool {
	return slices.ContainsFunc([]string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}, func(dir string) bool {
		return exists(filepath.Join(dir, "netavark"))
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
// runtime does not take. Podman takes CNI for its networks where it finds a
// configuration of it, which its Debian package has, also when only netavark is
// installed: then netavark says so.
func (r *Runtime) writeConf(g generated) (string, error) {
	path := filepath.Join(r.dir, "containers-"+g.runtime+".conf")
	text := fmt.Sprintf(`[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
default_sysctls = []

[engine]
runtime = %q
`, g.runtime)
	if g.netavark {
		text += "\n[network]\nnetwork_backend = \"netavark\"\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write podman's configuration: %w", err)
	}
	return path, nil
}
