package proctab

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OOMWatch holds how many processes the kernel had killed for want of memory when
// the watch began, in the memory cgroup of one process and on the whole host.
type OOMWatch struct {
	cgroup        string // file that counts them; "": there is no such file
	inside, total counter
}

type counter struct {
	n     uint64
	known bool
}

// WatchOOM begins to watch the cgroup of a living process.
func WatchOOM(pid int) OOMWatch {
	w := OOMWatch{cgroup: oomFile(Cgroups(pid)), total: oomKills("/proc/vmstat")}
	w.inside = oomKills(w.cgroup)
	return w
}

// Killed reports whether the kernel may have killed the process for want of
// memory since then. That is so if it has killed one in its cgroup, or, when the
// cgroup is gone or does not count, on the host. Killed returns true if nothing
// is known.
func (w OOMWatch) Killed() bool {
	if now := oomKills(w.cgroup); now.known && w.inside.known {
		return now != w.inside
	}
	now := oomKills("/proc/vmstat")
	return now != w.total || !now.known
}

// oomFile returns the file that counts kills in the memory cgroup. cgroups is the
// result of Cgroups, of either version of cgroups.
func oomFile(cgroups string) string {
	for line := range strings.Lines(cgroups) {
		// hierarchy-ID:controllers:path; see cgroups(7).
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		file := ""
		switch {
		case f[1] == "memory":
			file = filepath.Join("/sys/fs/cgroup/memory", f[2], "memory.oom_control")
		case f[0] == "0":
			file = filepath.Join("/sys/fs/cgroup", f[2], "memory.events")
		}
		if oomKills(file).known {
			return file
		}
	}
	return ""
}

// oomKills reads the line "oom_kill N" of a file.
func oomKills(file string) counter {
	b, err := os.ReadFile(file)
	if err != nil {
		return counter{}
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return counter{n, err == nil}
		}
	}
	return counter{}
}
