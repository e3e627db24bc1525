// Package tsclient runs scripts with the official TypeScript client of MCP,
// whose version package.json and package-lock.json pin. It is for tests only.
//
// The client is installed once for each version of these files, into the user's
// cache (or MCPFLEET_CACHE), by npm ci.
package tsclient

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

//go:embed package.json package-lock.json .npmrc
var files embed.FS

// List prints what the client gets from tools/list over stdio, all pages, as
// one line of JSON. Its arguments are the server's command.
//
//go:embed list.mjs
var List []byte

// Command returns the command that runs script, a module that may import from
// @modelcontextprotocol/sdk, with node. The test fails where node is to be
// expected and missing, and is skipped elsewhere.
func Command(t testing.TB, script []byte, args ...string) *exec.Cmd {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if runtime.GOOS == "linux" && os.Getuid() == 0 {
			t.Fatalf("%s is not installed, and on Linux as root this test needs it: make host", program)
		}
		t.Skipf("needs %s", program)
	}
	dir := install(t)
	name := filepath.Join(dir, fmt.Sprintf("%x.mjs", sum(script)))
	if err := write(name, script); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{name}, args...)...)
	cmd.Dir = dir
	return cmd
}

// install returns the directory with the client.
func install(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("MCPFLEET_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "mcpfleet")
	}
	names := []string{"package.json", "package-lock.json", ".npmrc"}
	var all []byte
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = fmt.Appendf(all, "%s %d\n%s", name, len(b), b)
	}
	dir := filepath.Join(cache, "tsclient", fmt.Sprintf("%x", sum(all)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(cache, "tsclient", "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	done := filepath.Join(dir, ".installed")
	if _, err := os.Stat(done); err == nil {
		return dir
	}
	for _, name := range names {
		b, _ := files.ReadFile(name)
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(done, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// write makes a file at once: other tests may run it meanwhile.
func write(name string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "script-*")
	if err != nil {
		return fmt.Errorf("write script: %w", err)
	}
	_, err = tmp.Write(content)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("write script: %w", err)
	}
	return nil
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:8]
}
