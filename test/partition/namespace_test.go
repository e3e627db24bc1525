//go:build linux

package partition

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// namespaces is the directory in which ip has the names of network namespaces.
const namespaces = "/run/netns"

// inside runs f on a thread in a network namespace. Programs that f starts and
// connections that it dials stay in the namespace. The thread ends with f.
func inside(ns string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread ends
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and the process would appear to be in its
			// namespace. While it is blocked here, the next thread is another one.
			defer runtime.UnlockOSThread()
			done <- inside(ns, f)
			return
		}
		done <- func() error {
			fd, err := unix.Open(filepath.Join(namespaces, ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open namespace %s: %w", ns, err)
			}
			defer unix.Close(fd)
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace %s: %w", ns, err)
			}
			return f()
		}()
	}()
	return <-done
}

// dialer dials from a namespace, to addresses that need no resolver.
func dialer(ns string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		bad := inside(ns, func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, addr)
			return nil
		})
		if bad != nil {
			return nil, bad
		}
		return conn, err
	}
}

// run runs a command, and returns an error if it fails.
func run(stdin, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdin, out)
	}
	return nil
}

// inhabitants returns the processes in a namespace.
func inhabitants(ns string) ([]int, error) {
	out, err := exec.Command("ip", "netns", "pids", ns).Output()
	if err != nil {
		return nil, fmt.Errorf("ip netns pids %s: %w", ns, err)
	}
	var pids []int
	for _, word := range strings.Fields(string(out)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// prefix is the prefix of all namespaces and program directories that are created
// here. The pid and start time of the creator follow.
const prefix = "mcpfleet-partition."

func owned(owner proctab.ID) string { return fmt.Sprintf("%s%d.%d.", prefix, owner.PID, owner.Start) }

func self() proctab.ID {
	p, _ := proctab.Find(os.Getpid())
	return p.ID
}

// sweep removes the namespaces and directories of dead creators, and kills the
// processes in them.
func sweep() error {
	for dir, remove := range map[string]func(name string) error{
		namespaces:   remove,
		os.TempDir(): func(name string) error { return os.RemoveAll(filepath.Join(os.TempDir(), name)) },
	} {
		left, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
		if err != nil {
			return err
		}
		for _, path := range left {
			name := filepath.Base(path)
			var owner proctab.ID
			if _, err := fmt.Sscanf(strings.TrimPrefix(name, prefix), "%d.%d.", &owner.PID, &owner.Start); err == nil && owner.Alive() {
				continue
			}
			if err := remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove kills the processes in a namespace and removes it. Another process may do
// the same at the same time.
func remove(ns string) error {
	if pids, err := inhabitants(ns); err == nil {
		for _, pid := range pids {
			if pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be removed already
			}
		}
	}
	err := run("", "ip", "netns", "del", ns)
	if _, gone := os.Stat(filepath.Join(namespaces, ns)); os.IsNotExist(gone) {
		return nil
	}
	return err
}
