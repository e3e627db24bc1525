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
	dir := client(t)
	name := filepath.Join(dir, fmt.Sprintf("%x.mjs", sum(script)))
	if err := write(name, script); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{name}, args...)...)
	cmd.Dir = dir
	return cmd
}

// client returns the directory with the client. Each version has its own directory,
// since tests of several versions may run at once.
func client(t testing.TB) string {
	t.Helper()
	var all []byte
	for _, name := range npmFiles {
		b, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = fmt.Appendf(all, "%s %d\n%s", name, len(b), b)
	}
	return Install(t, fmt.Sprintf("client/%x", sum(all)), files)
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
