package seed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
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
	s := New(Config{File: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	file, err := s.cfg.Read()
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

// cluster is desired state, and the election, of a controller that leads or
// not.
type cluster struct {
	mu    sync.Mutex
	leads bool
	state *desired.State
}

func (c *cluster) State() *desired.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *cluster) Propose(_ context.Context, cmd desired.Command) (desired.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	res := c.state.Apply(c.state.Applied+1, 1, desired.Entry{Command: cmd})
	c.state = res.State
	return res, res.Err
}

func (c *cluster) Do(ctx context.Context, here func(context.Context) error, _ func(context.Context, *api.Client) error) error {
	c.mu.Lock()
	leads := c.leads
	c.mu.Unlock()
	if !leads {
		return fleet.ErrNoLeader
	}
	return here(ctx)
}

func (c *cluster) lead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leads = true
}

// names returns the servers that are desired, in one word.
func (c *cluster) names() string {
	names := ""
	for _, s := range c.State().List() {
		names += string(s.Name)
	}
	return names
}

const (
	fileA = `{"servers": {"a": {"command": ["x"]}}}`
	fileB = `{"servers": {"b": {"command": ["x"]}}}`
)

// with returns a state with the servers of a file.
func with(t *testing.T, text string) *desired.State {
	t.Helper()
	st := new(desired.State)
	if text == "" {
		return st
	}
	file, err := fleetfile.Parse([]byte(text), fleetfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st.Apply(1, 1, desired.Entry{Command: desired.PutServers{Servers: file.Servers}}).State
}

// A fleet file fills a state that nobody has written to, and no other.
func TestSeed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stored string // desired before
		file   string // "": none
		atOpen bool   // the file was read at the start, as there was no state
		want   string
	}{
		{"no state", "", fileA, true, "a"},
		{"the life that founded the cluster ended", "", fileA, false, "a"},
		{"the cluster has state", fileB, fileA, true, "b"},
		{"so has this controller", fileB, fileA, false, "b"},
		{"no file", "", "", false, ""},
		{"a file without servers", "", `{"servers": {}}`, true, ""},
		{"a bad file", "", `{"servers": 1}`, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := &cluster{state: with(t, tt.stored)}
				caughtUp, reload := make(chan struct{}), make(chan os.Signal)
				cfg := Config{Desired: c, Leader: c, CaughtUp: caughtUp, Reload: reload, Log: slog.New(slog.DiscardHandler)}
				if tt.file != "" {
					cfg.File = filepath.Join(t.TempDir(), "fleet.json")
					write(t, cfg.File, tt.file)
				}
				var file *fleetfile.File
				if tt.atOpen {
					var err error
					if file, err = cfg.Read(); err != nil {
						t.Fatal(err)
					}
				}
				s := New(cfg)
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				defer running.Wait()
				defer cancel()
				running.Go(func() { _ = s.Run(ctx, file) })
				time.Sleep(time.Second)
				needed := tt.file != "" && !strings.Contains(tt.name, "without servers")
				if waits := s.Missing() != ""; waits != needed {
					t.Errorf("before there is a leader: missing %q", s.Missing())
				}
				c.lead()
				close(caughtUp)
				time.Sleep(time.Second)
				if got := c.names(); got != tt.want || s.Missing() != "" {
					t.Errorf("desired are %q, want %q; missing %q", got, tt.want, s.Missing())
				}
				if tt.file == "" {
					reload <- os.Interrupt // there is nothing to apply
					return
				}
				write(t, cfg.File, fileB)
				reload <- os.Interrupt
				synctest.Wait()
				if got := c.names(); got != "b" {
					t.Errorf("applied again: desired are %q", got)
				}
			})
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A missing or bad file is an error that says which.
func TestReadErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.json")
	cfg := Config{File: path, Log: slog.New(slog.DiscardHandler)}
	if _, err := cfg.Read(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	write(t, path, `{"servers": 1}`)
	if _, err := cfg.Read(); err == nil || !strings.Contains(err.Error(), "nothing changed") {
		t.Errorf("bad: %v", err)
	}
}
