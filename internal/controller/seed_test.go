package controller

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A client's file with a broken server fills an empty state without it, and
// changes nothing where that server may run.
func TestSeedOfAClientsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mcp.json")
	text := `{"mcpServers": {"a": {"command": "x", "icon": "i"}, "b": {"command": 7}}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := &seeder{cfg: Config{File: path}, log: slog.New(slog.NewTextHandler(&log, nil))}
	file, err := s.parse()
	if err != nil || len(file.Servers) != 1 || len(file.Broken) != 1 {
		t.Fatalf("got %+v, %v", file, err)
	}
	for _, want := range []string{
		"level=WARN msg=\"fleet file\" file=" + path + " line=0 path=\"\" warning=\"keys that mean nothing here are ignored: icon (a)\"",
		"line=1 path=mcpServers.b warning=\"this server is left out: command: must be a string, not 7",
	} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("logged %d times, want once: %s\n%s", n, want, &log)
		}
	}
	// A write would panic: there is no store.
	if _, err := s.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing was changed: [b]") {
		t.Errorf("reload: %v", err)
	}
}
