package process

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// memoryCgroup makes a cgroup whose processes get no more than limit bytes.
func memoryCgroup(t *testing.T, limit int) string {
	t.Helper()
	name := fmt.Sprintf("mcpfleet-test-%d", os.Getpid())
	for _, c := range []struct{ dir, file string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
		{"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(c.dir, name)
		if os.Mkdir(dir, 0o700) != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		if os.WriteFile(filepath.Join(dir, c.file), []byte(strconv.Itoa(limit)), 0o600) == nil {
			return dir
		}
	}
	t.Skip("no memory cgroup can be made here")
	return ""
}

// glutton is the worker of TestKilledForWantOfMemory. It is the test binary
// itself, in a cgroup with little memory, and prints the exits of its two
// replicas.
func glutton(dir string) error {
	r, err := New(Config{Node: "n1", DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, kill := range []bool{true, false} {
		p, err := r.Start(ctx, launch("sh", "-c", "echo up; read line; exec tail /dev/zero"))
		if err != nil {
			return err
		}
		if _, err := bufio.NewReader(p.Stdout()).ReadString('\n'); err != nil {
			return err
		}
		if kill { // as an operator would
			err = syscall.Kill(p.PID(), syscall.SIGKILL)
		} else {
			_, err = io.WriteString(p.Stdin(), "go\n")
		}
		if err != nil {
			return err
		}
		exit := p.Exit(ctx)
		if err := json.NewEncoder(os.Stdout).Encode(exit); err != nil {
			return err
		}
		if err := p.Remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A kill for want of memory is a plain SIGKILL. Only the kernel's counters tell
// it from an operator's.
func TestKilledForWantOfMemory(t *testing.T) {
	cgroup := memoryCgroup(t, 256<<20)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t, time.Minute), "sh", "-c", `echo $$ > "$1"/cgroup.procs && exec "$2"`, "sh", cgroup, self)
	cmd.Env = append(os.Environ(), "GLUTTON="+t.TempDir())
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []fleet.Exit{{Code: -1, Signal: "SIGKILL"}, {Code: -1, Signal: "SIGKILL", OOM: true}}
	var got []fleet.Exit
	for line := range strings.Lines(string(out)) {
		var e fleet.Exit
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the replicas ended with %+v, want %+v", got, want)
	}
}
