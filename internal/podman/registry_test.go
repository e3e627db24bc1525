package podman

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// registry serves one image, which holds only the echo program, to clients that
// send the password.
func registry(t *testing.T) *httptest.Server {
	t.Helper()
	var layer, packed bytes.Buffer
	program := echoProgram(runtime.GOARCH)
	w := tar.NewWriter(&layer)
	must(t, w.WriteHeader(&tar.Header{Name: "echo", Mode: 0o755, Size: int64(len(program))}))
	_, err := w.Write(program)
	must(t, err)
	must(t, w.Close())
	z := gzip.NewWriter(&packed)
	_, err = z.Write(layer.Bytes())
	must(t, err)
	must(t, z.Close())

	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		must(t, err)
		return b
	}
	config := encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/echo"}, "Labels": map[string]string{"test": t.TempDir()}}, // makes the image unique
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer.Bytes())}},
	})
	const kind = "application/vnd.docker.distribution.manifest.v2+json"
	describe := func(kind string, b []byte) map[string]any {
		return map[string]any{"mediaType": kind, "size": len(b), "digest": digest(b)}
	}
	manifest := encode(map[string]any{
		"schemaVersion": 2, "mediaType": kind,
		"config": describe("application/vnd.docker.container.image.v1+json", config),
		"layers": []any{describe("application/vnd.docker.image.rootfs.diff.tar.gzip", packed.Bytes())},
	})
	blobs := map[string][]byte{digest(config): config, digest(packed.Bytes()): packed.Bytes()}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user != "fleet" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		blob, isBlob := blobs[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]]
		switch {
		case req.URL.Path == "/v2/":
		case strings.HasPrefix(req.URL.Path, "/v2/echo/manifests/"):
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Docker-Content-Digest", digest(manifest))
			w.Write(manifest)
		case isBlob:
			w.Write(blob)
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPullFromPrivateRegistry(t *testing.T) {
	needPodman(t)
	s := registry(t)
	host := strings.TrimPrefix(s.URL, "http://")
	dir := t.TempDir()
	conf, auth := filepath.Join(dir, "registries.conf"), filepath.Join(dir, "auth.json")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "[[registry]]\nlocation = %q\ninsecure = true\n", host), 0o600))
	must(t, os.WriteFile(auth, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("fleet:secret"))), 0o600))
	r := open(t, func(cfg *Config) {
		cfg.Environ = append(os.Environ(), "CONTAINERS_REGISTRIES_CONF="+conf)
	})
	var progress lines
	l := launchOf(t, r)
	l.Template.Image, l.Template.PullPolicy = host+"/echo:1", fleet.PullMissing
	l.Pulling = progress.add
	if err := r.Prepare(within(t, 30*time.Second), l); err == nil || !strings.Contains(err.Error(), "authfile") {
		t.Fatalf("without credentials: %v; want a hint at the authfile", err)
	}

	r.authFile = auth
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := r.query(ctx, "rmi", "--force", l.Template.Image); err != nil {
			t.Error(err)
		}
	})
	must(t, r.Prepare(within(t, 30*time.Second), l))
	c := startOf(t, r, l)
	_, err := io.WriteString(c.stdin, "pulled\n")
	must(t, err)
	must(t, c.stdin.Close())
	if got := readAll(t, c.stdout); got != "pulled\n" {
		t.Errorf("answer %q", got)
	}
	if said := progress.String(); !strings.Contains(said, "Copying blob") || !strings.HasPrefix(said, "|") {
		t.Errorf("progress %q", said)
	}
	if e := c.Exit(within(t, 10*time.Second)); e != (fleet.Exit{}) {
		t.Errorf("Exit = %+v", e)
	}

	// The image is removed. The start says so, and the image is pulled again although it
	// had been present.
	must(t, c.Remove(t.Context()))
	if _, err := r.query(t.Context(), "rmi", "--force", l.Template.Image); err != nil {
		t.Fatal(err)
	}
	l.Replica = fleet.NewReplicaID("srv", 1)
	if _, err := r.Start(t.Context(), l); !errors.Is(err, fleet.ErrImageGone) {
		t.Errorf("Start without the image: %v", err)
	}
	l.Replica = fleet.NewReplicaID("srv", 1)
	must(t, r.Prepare(within(t, 30*time.Second), l))
	startOf(t, r, l)
}
