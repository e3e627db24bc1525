package proctab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

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
	f, ok := stat(pid)
	if !ok {
		return Process{}, false
	}
	var err error
	p := Process{ID: ID{PID: pid}}
	p.Parent, _ = strconv.Atoi(f[1])
	p.Group, _ = strconv.Atoi(f[2])
	if p.Start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return Process{}, false
	}
	return p, true
}

// stat returns the fields of a living process that follow its name: number n of
// proc_pid_stat(5) is at n-3.
func stat(pid int) ([]string, bool) {
	b, err := os.ReadFile(file(pid, "stat"))
	if err != nil {
		return nil, false
	}
	// The command name is in parentheses and may contain anything.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return nil, false
	}
	f := strings.Fields(string(b[end+1:]))
	return f, len(f) >= 20 && f[0] != "Z" && f[0] != "X"
}

// Getenv returns a variable of the environment the process was started with.
// A process that is within exec is waited for, at most for execPatience.
func Getenv(pid int, name string) (string, bool) {
	for kv := range bytes.SplitSeq(handedOver(pid, "environ"), []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}

// Cmdline returns the words of the process's command line. A process that is
// within exec is waited for, at most for execPatience.
func Cmdline(pid int) []string {
	b := handedOver(pid, "cmdline")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// execPatience bounds the wait for a process that is within exec. That takes
// less than a millisecond, unless the process gets no CPU or its program is
// read from a slow disk.
const execPatience = time.Second

// handedOver returns what a program was given when it was started: "environ" or
// "cmdline". Both are empty for a moment within exec, when the old program is
// gone and the new one does not know them yet. Whose such a process is must not
// be answered with "nobody's".
func handedOver(pid int, name string) []byte {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(file(pid, name))
		if err != nil || len(b) > 0 || time.Since(began) > execPatience || !mayFill(pid, name) {
			return b
		}
	}
}

// mayFill reports whether a file of handedOver that was read as empty may be
// filled a moment later.
func mayFill(pid int, name string) bool {
	f, ok := stat(pid)
	if !ok || len(f) < 49 {
		return false
	}
	const exiting, kernelThread = 0x4, 0x200000 // PF_EXITING and PF_KTHREAD
	number := func(i int) uint64 { n, _ := strconv.ParseUint(f[i], 10, 64); return n }
	if number(6)&(exiting|kernelThread) != 0 {
		return false
	}
	switch number(23) { // where its code starts: set last
	case 0:
		return true // still within exec
	case 1:
		return false // this user may not know
	}
	if name == "cmdline" {
		return number(45) != number(46)
	}
	return number(47) != number(48)
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
