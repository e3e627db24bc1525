// Package tsclient runs scripts with the official TypeScript client of MCP, for
// tests. package.json and package-lock.json pin its version.
//
// The client is installed once for each version of these files, into the user's
// cache (or MCPFLEET_CACHE). Install does the same for other packages.
package tsclient

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed package.json package-lock.json .npmrc
var files embed.FS

// List is a script that prints the result of tools/list over stdio, all pages, as
// one line of JSON. Its arguments are the server's command.
//
//go:embed list.mjs
var List []byte

// Command returns the command that runs script with node. The script is a module
// that may import from @modelcontextprotocol/sdk.
func Command(t testing.TB, script []byte, args ...string) *exec.Cmd {
	t.Helper()
	dir := InstallVersion(t, "client", files)
	name := filepath.Join(dir, fmt.Sprintf("%x.mjs", sum(script)))
	if err := write(name, script); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{name}, args...)...)
	cmd.Dir = dir
	return cmd
}

// InstallVersion is Install for a set of packages that changes with the repository.
// Each version has its own directory, since tests of several versions may run at once.
func InstallVersion(t testing.TB, name string, files fs.FS) string {
	t.Helper()
	var all []byte
	for _, name := range npmFiles {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		all = fmt.Appendf(all, "%s %d\n%s", name, len(b), b)
	}
	return Install(t, fmt.Sprintf("%s/%x", name, sum(all)), files)
}

// Scripts writes modules that import each other, and packages that are installed in
// dir, into a directory below it. It returns that directory.
func Scripts(t testing.TB, dir string, scripts fs.FS) string {
	t.Helper()
	names, err := fs.Glob(scripts, "*.mjs")
	if err != nil {
		t.Fatal(err)
	}
	contents := make([][]byte, len(names))
	var all []byte
	for i, name := range names {
		if contents[i], err = fs.ReadFile(scripts, name); err != nil {
			t.Fatal(err)
		}
		all = fmt.Appendf(all, "%s %d\n%s", name, len(contents[i]), contents[i])
	}
	into := filepath.Join(dir, fmt.Sprintf("scripts-%x", sum(all)))
	if err := os.MkdirAll(into, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if err := write(filepath.Join(into, name), contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	return into
}

// write creates a file atomically, since other tests may run it meanwhile.
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
