package podman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
	"golang.org/x/sys/unix"
)

// netnsDir is where podman, as root, keeps the network namespaces of containers.
// Their names do not identify the containers.
const netnsDir = "/run/netns"

var netnsName = regexp.MustCompile(`^netns-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// dropNetworks removes network namespaces that were made around that time by a
// podman that was killed before it recorded whose they are. Their ends of the
// bridge go with them. It waits a few seconds for running podmans that may be
// about to use such a namespace.
func (r *Runtime) dropNetworks(ctx context.Context, about time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		orphans, doubtful := orphanedNetworks(about)
		for _, path := range orphans {
			if err := unix.Unmount(path, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount network namespace %s: %w", path, err)
			}
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove network namespace: %w", err)
			}
			r.log.Info("removed a network namespace that a killed podman left", "path", path)
		}
		if doubtful == 0 || proctab.Sleep(ctx, 100*time.Millisecond) != nil {
			return nil
		}
	}
}

// orphanedNetworks returns the namespaces made around that time that no process
// is in and no podman is about to use: all clients that are older than the
// namespace have ended. doubtful counts the empty namespaces that a client may
// still use.
func orphanedNetworks(about time.Time) (orphans []string, doubtful int) {
	entries, err := os.ReadDir(netnsDir)
	if err != nil {
		return nil, 0
	}
	candidates := make(map[uint64]string)
	made := make(map[string]time.Time)
	for _, e := range entries {
		path := filepath.Join(netnsDir, e.Name())
		fi, err := os.Stat(path)
		if !netnsName.MatchString(e.Name()) || err != nil {
			continue
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if d := fi.ModTime().Sub(about); !ok || d < -patience || d > patience {
			continue
		}
		candidates[st.Ino], made[path] = path, fi.ModTime()
	}
	if len(candidates) == 0 {
		return nil, 0
	}
	// Clients are listed before the processes in the namespaces: a client that
	// ends between the two has used its namespace by then, or never will.
	var clients []time.Time
	for _, p := range proctab.Table() {
		if w := proctab.Cmdline(p.PID); len(w) > 0 && slices.Contains([]string{"podman", "netavark", "conmon", "runc", "crun"}, filepath.Base(w[0])) {
			if filepath.Base(w[0]) != "conmon" || recent(p.Start) {
				clients = append(clients, startTime(p.Start))
			}
		}
	}
	for _, p := range proctab.Table() {
		if fi, err := os.Stat(filepath.Join("/proc", strconv.Itoa(p.PID), "ns", "net")); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				delete(candidates, st.Ino)
			}
		}
	}
	for _, path := range candidates {
		older := func(client time.Time) bool { return client.Before(made[path].Add(time.Second)) }
		if slices.ContainsFunc(clients, older) {
			doubtful++
		} else {
			orphans = append(orphans, path)
		}
	}
	return orphans, doubtful
}

// recent reports whether a process is less than a few seconds old. A conmon of
// that age may still be waiting for its container.
func recent(start uint64) bool { return time.Since(startTime(start)) < 5*time.Second }

// startTime converts ticks since boot to a time. A tick is 1/100 s on every
// architecture, as far as programs see.
func startTime(ticks uint64) time.Time {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{} // older than every namespace: nothing is removed
	}
	up, _, _ := strings.Cut(string(b), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(seconds * float64(time.Second)))
	return boot.Add(time.Duration(ticks) * 10 * time.Millisecond)
}
