package tsclient

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const lockFile = "package-lock.json"

// npmFiles are the files that npm needs to install packages.
var npmFiles = []string{"package.json", lockFile, ".npmrc"}

// Install installs the packages of a lock file into a directory of the user's cache
// (or of MCPFLEET_CACHE), and returns that directory. It does nothing if they are
// installed already. It runs no scripts of packages.
//
// If node or npm is missing, the test fails where they should be installed, and is
// skipped on other machines.
func Install(t testing.TB, name string, files fs.FS) string {
	t.Helper()
	needNode(t)
	dir := filepath.Join(cache(t), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	wanted, err := fs.ReadFile(files, lockFile)
	if err != nil {
		t.Fatal(err)
	}
	done := filepath.Join(dir, ".installed")
	if got, err := os.ReadFile(done); err == nil && bytes.Equal(got, wanted) {
		return dir
	}
	_ = os.Remove(done)
	for _, name := range npmFiles {
		b, err := fs.ReadFile(files, name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci in %s: %v\n%s", dir, err, out[:min(2000, len(out))])
	}
	t.Logf("npm ci of %s took %s", name, time.Since(began).Round(time.Second))
	if err := os.WriteFile(done, wanted, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needNode(t testing.TB) {
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
}

func cache(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("MCPFLEET_CACHE"); dir != "" {
		return dir
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(user, "mcpfleet")
}
