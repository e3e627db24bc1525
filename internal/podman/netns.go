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

// netnsDir is where podman, as root, binds the network namespaces of
// containers to names. The names say nothing of the container.
const netnsDir = "/run/netns"

var netnsName = regexp.MustCompile(`^netns-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// dropNetworks removes network namespaces that a podman made about that time,
// killed before it could note whose they are. With them go their ends of the
// bridge. It waits a little for podmans that may just be filling theirs.
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

// orphanedNetworks returns namespaces made about that time that nothing is in
// and that no living podman can be about to fill: all clients that are older
// than the namespace have ended. doubtful counts those of which only the
// latter is not known yet.
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
	// The clients are looked at before the inhabitants: one that ends between
	// the two looks has filled its namespace by then, or never will.
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

// recent tells of a process less than a few seconds old: a conmon may then
// still be waiting for its container to be made.
func recent(start uint64) bool { return time.Since(startTime(start)) < 5*time.Second }

// startTime turns ticks since boot into a time. The kernel shows ticks of
// 1/100 s to programs everywhere.
func startTime(ticks uint64) time.Time {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{} // older than everything: in doubt nothing is removed
	}
	up, _, _ := strings.Cut(string(b), " ")
	seconds, err := strconv.ParseFloat(up, 64)
	if err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(seconds * float64(time.Second)))
	return boot.Add(time.Duration(ticks) * 10 * time.Millisecond)
}
