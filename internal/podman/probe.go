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

// findMode tries the host's own configuration first, then generated ones that
// ask for less, and keeps the first with which a container runs.
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
				break // a generated file has no effect on the other host
			}
			// If CNI's plugins are missing, only netavark can help.
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
				r.log.Warn("podman refuses passthrough pipes: a podman client relays the stdio of each replica")
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

// generated describes a configuration that we write. The zero value stands for
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

// failures lists why no container ran, by configuration.
type failures []struct{ config, why string }

// add adds a failure. Neighbours with the same reason become one entry.
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

// removeProbes removes containers of failed probes, which podman could not remove
// under the configuration that failed. Those that remain have a record, so the
// next sweep finds them.
func (r *Runtime) removeProbes(m mode) {
	if m.conf == "" {
		return
	}
	for _, name := range r.recorded() {
		if strings.HasPrefix(name, "mcpfleet-probe-") {
			if err := r.remove(r.record(name), true); err != nil {
				r.log.Warn("container of a failed probe not removed", "container", name, "err", err)
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
	// Podman searches these, and an ordinary user's PATH may lack them.
	return slices.ContainsFunc([]string{"/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"}, func(dir string) bool {
		return exists(filepath.Join(dir, program))
	})
}

// netavarkInstalled reports whether netavark is in one of the directories that
// podman searches for its helpers.
func netavarkInstalled() bool {
	return slices.ContainsFunc([]string{"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman"}, func(dir string) bool {
		return exists(filepath.Join(dir, "netavark"))
	})
}

// tryMode runs a container. If podman reports that it lacks an init or
// passthrough, tryMode tries again without, and returns the mode that worked.
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
			r.log.Info("podman has no init for containers: a server that does not handle TERM ignores it and is killed", "reason", said)
		case !m.relay && strings.Contains(said, "passthrough"):
			m.relay = true
		default:
			return m, err
		}
	}
}

// probe runs one container in the way replicas run, and talks to it.
func (r *Runtime) probe(ctx context.Context, arch string) (err error) {
	program := echoProgram(arch)
	if program == nil {
		return fmt.Errorf("no program to try for architecture %s", arch)
	}
	l := fleet.Launch{
		Cluster: "probe", Node: r.node, Replica: fleet.NewReplicaID("probe", 1), Server: "probe", Revision: 1,
		Template: &fleet.Template{Entrypoint: []string{"/probe"}},
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
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("the container did not answer"))
	defer cancel()
	err = converse(ctx, c)
	if rerr := c.Remove(context.WithoutCancel(ctx)); rerr != nil && err == nil {
		err = rerr
	}
	return err
}

// converse checks that the container echoes a line and then exits with code 0.
func converse(ctx context.Context, c *container) error {
	const word = "mcpfleet\n"
	deadline, _ := ctx.Deadline()
	_ = c.stdin.SetWriteDeadline(deadline) // works: these are pipes
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

// isRemote reports whether podman runs containers on another host, and returns
// that host's architecture. It asks podman only if something suggests a remote
// one, because the question takes as long as a start.
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
		return true, runtime.GOARCH // the probe will report what is wrong
	}
	return info.Host.ServiceIsRemote, info.Host.Arch
}

// importImage makes an image that holds only the program.
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

// writeConf writes a containers.conf for hosts where podman's defaults fail. One
// that lacks CAP_SYS_RESOURCE refuses the default limits, and some cgroups do not
// work with the default runtime. Podman uses CNI wherever it finds a CNI
// configuration, which Debian's package installs even without the plugins, so
// g.netavark asks for netavark.
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
