package proctab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Table returns every living process that is visible; zombies are not living.
func Table() []Process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var table []Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := Find(pid); ok {
			table = append(table, p)
		}
	}
	return table
}

// Find returns the living process with that pid.
func Find(pid int) (Process, bool) {
	if pid <= 0 {
		return Process{}, false
	}
	b, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return Process{}, false
	}
	// The command name is in parentheses and may contain anything.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return Process{}, false
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return Process{}, false
	}
	p := Process{ID: ID{PID: pid}}
	p.Parent, _ = strconv.Atoi(f[1])
	p.Group, _ = strconv.Atoi(f[2])
	if p.Start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return Process{}, false
	}
	return p, true
}

// Getenv returns a variable of the environment the process was started with.
func Getenv(pid int, name string) (string, bool) {
	b, err := os.ReadFile(file(pid, "environ"))
	if err != nil {
		return "", false
	}
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}

// Cmdline returns the words of the process's command line.
func Cmdline(pid int) []string {
	b, err := os.ReadFile(file(pid, "cmdline"))
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// Cgroups returns the process's cgroup paths, one line for each hierarchy, as
// the kernel writes them.
func Cgroups(pid int) string {
	b, _ := os.ReadFile(file(pid, "cgroup"))
	return string(b)
}

// Signal sends sig to the process, and to no other that may have come to its
// pid since. A process that is gone is no error.
func Signal(id ID, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		// No pidfd in this kernel or sandbox: check and send, as close
		// together as can be.
		if !id.Alive() {
			return nil
		}
		err = unix.Kill(id.PID, sig)
	case err != nil:
		return fmt.Errorf("open process %d: %w", id.PID, err)
	default:
		defer unix.Close(fd)
		if !id.Alive() {
			return nil
		}
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", id.PID, err)
	}
	return nil
}

func file(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// namespace returns the inode of a process's pid namespace, 0 when unknown.
func namespace(pid string) uint64 {
	link, err := os.Readlink("/proc/" + pid + "/ns/pid")
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]"), 10, 64)
	return n
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")
}
