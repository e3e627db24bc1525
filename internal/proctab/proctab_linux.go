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

// Table returns all living processes that are visible, without zombies.
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
	for _, ticks := range f[11:15] { // its own and its children's, as user and in the kernel
		n, _ := strconv.ParseInt(ticks, 10, 64)
		p.CPU += time.Duration(n) * clockTick
	}
	if len(f) > 21 {
		pages, _ := strconv.ParseInt(f[21], 10, 64)
		p.Memory = pages * int64(os.Getpagesize())
	}
	return p, true
}

// clockTick is the unit of CPU time in proc_pid_stat(5). It is a constant of the
// kernel's interface on all architectures that Go has.
const clockTick = time.Second / 100

// stat returns the fields of a living process that follow its name. Field n of
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

// Getenv returns a variable of the environment that the process was started with.
// If the process is within exec, Getenv waits for that, at most execPatience.
func Getenv(pid int, name string) (string, bool) {
	for kv := range bytes.SplitSeq(startFile(pid, "environ"), []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}

// Cmdline returns the words of the process's command line. If the process is
// within exec, Cmdline waits for that, at most execPatience.
func Cmdline(pid int) []string {
	b := startFile(pid, "cmdline")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// execPatience bounds the wait for a process that is within exec. An exec takes
// less than a millisecond, unless the process gets no CPU or its program is read
// from a slow disk.
const execPatience = time.Second

// startFile returns the file "environ" or "cmdline" of a process. Both are empty
// for a moment within exec, after the old program has gone. startFile waits then,
// because such a process must not be taken for one without a marker.
func startFile(pid int, name string) []byte {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(file(pid, name))
		if err != nil || len(b) > 0 || time.Since(began) > execPatience || !mayFill(pid, name) {
			return b
		}
	}
}

// mayFill reports whether a file of startFile that was empty may have content a
// moment later.
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
	switch number(23) { // where its code starts, which the kernel sets last
	case 0:
		return true // still within exec
	case 1:
		return false // the kernel does not show it to this user
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

// Signal sends sig to the process, and never to another that got its pid. It
// returns nil if the process is gone.
func Signal(id ID, sig syscall.Signal) error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		// This kernel or sandbox has no pidfd. Check and send right after each
		// other.
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

// namespace returns the inode of a process's pid namespace, or 0 if unknown.
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
