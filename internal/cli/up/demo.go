package up

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	demoServer = "demo"
	demoImage  = "localhost/mcpfleet-demo"
)

// demoPath returns the path of the fleet file of the demo server. A directory
// with this file runs the demo server, unless its state has changed since.
func demoPath(dataDir string) string { return filepath.Join(dataDir, "demo-fleet.json") }

// demoFile writes a fleet file for the demo server, and returns its path. Where
// podman works, the server runs as an image of only that program. A dynamically
// linked program runs as a plain process if possible.
func demoFile(ctx context.Context, here *machine, demo, dataDir string, replicas int) (string, error) {
	spec := map[string]any{"default_tool": "echo", "replicas": replicas}
	if here.offers(fleet.RuntimePodman) && (checkStatic(demo) == nil || !here.offers(fleet.RuntimeProcess)) {
		image, err := demoImageOf(ctx, demo, dataDir)
		if err != nil {
			return "", err
		}
		spec["image"], spec["pull_policy"] = image, "never"
	} else {
		spec["command"] = []string{demo}
	}
	b, err := json.MarshalIndent(map[string]any{"servers": map[string]any{demoServer: spec}}, "", "  ")
	if err != nil {
		return "", err
	}
	// A dollar sign in the path must not be taken for a variable.
	b = bytes.ReplaceAll(b, []byte("$"), []byte("$$"))
	path := demoPath(dataDir)
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return "", err
	}
	return path, nil
}

// checkStatic returns an error if the program is linked dynamically, and so
// cannot run in an image of only that program. Files other than ELF pass.
func checkStatic(program string) error {
	f, err := elf.Open(program)
	if _, other := errors.AsType[*elf.FormatError](err); other {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically, but an image needs a static program: build it with CGO_ENABLED=0", program)
		}
	}
	return nil
}

// demoImageOf imports the program as an image, unless the image of this build
// exists already.
func demoImageOf(ctx context.Context, demo, dataDir string) (string, error) {
	if err := checkStatic(demo); err != nil {
		return "", err
	}
	program, err := os.ReadFile(demo)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(program)
	image := demoImage + ":" + hex.EncodeToString(sum[:6])
	if podman(ctx, "image", "exists", image) == nil {
		return image, nil
	}
	layer, err := layerOf("demo-server", program)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dataDir, "demo-image.tar")
	if err := os.WriteFile(path, layer, 0o600); err != nil {
		return "", err
	}
	defer os.Remove(path)
	if err := podman(ctx, "import", "--quiet", "--change", `ENTRYPOINT ["/demo-server"]`, path, image); err != nil {
		return "", fmt.Errorf("create its image: %w", err)
	}
	return image, nil
}

// layerOf returns the root file system of an image with one program.
func layerOf(name string, program []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// podman runs a podman command that starts no container. The command takes only
// a moment, and is not killed when ctx ends, since that could damage podman's
// storage.
func podman(ctx context.Context, args ...string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd := exec.Command("podman", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // out of reach of Ctrl-C
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("podman %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return nil
}
