package up

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A stopped terminal, or a pipe without a reader, prevents neither the restart
// of a child nor the end of Run.
func TestRunWithoutReader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	size, _, errno := syscall.Syscall(syscall.SYS_FCNTL, write.Fd(), unix.F_SETPIPE_SZ, 4096)
	if errno != 0 {
		t.Fatal(errno)
	}
	if _, err := write.Write(make([]byte, size)); err != nil { // further writes block
		t.Fatal(err)
	}
	r := begin(t, "", func(c *Config) { c.Out = write })
	for _, name := range []string{"worker-1", "controller"} { // one that dies before it has printed its address ends Run
		eventually(t, func() string {
			if _, err := os.Stat(filepath.Join(r.cfg.DataDir, name, "at")); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	for n := 1; n <= 3; n++ {
		eventually(t, func() string {
			if why := hadLives(r.cfg.DataDir, "worker-1", n); why != "" {
				return why
			}
			return hadLives(r.cfg.DataDir, "controller", n)
		})
		if n == 3 {
			break
		}
		for _, name := range []string{"worker-1", "controller"} {
			if err := syscall.Kill(lives(r.cfg.DataDir, name)[n-1].PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(r.stop)
	if err := r.ended(); err != nil {
		t.Errorf("Run: %v", err)
	}
}
