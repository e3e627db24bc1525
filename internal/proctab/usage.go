package proctab

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes have used of the CPU, and what they use of the memory.
type Usage struct {
	CPU    time.Duration // so far
	Memory int64         // bytes
}

// UsageOf returns the usage of the roots that live and of all their descendants, as far
// as the table shows the descent. The CPU time of ended descendants is in it if their
// parents have waited for them. Shared memory counts for each process. It reports false
// if no root lives.
func UsageOf(table []Process, roots map[int]bool) (u Usage, ok bool) {
	family := make(map[ID]bool)
	for _, id := range Family(table, roots) {
		family[id] = true
	}
	for _, p := range table {
		if family[p.ID] {
			u.CPU += p.CPU
			u.Memory += p.Memory
		}
	}
	return u, len(family) > 0
}

// Meter reads the usage of a cgroup. The zero Meter knows none.
type Meter struct {
	cpu, memory, cache counterFile
	unit               time.Duration // of cpu
}

// counterFile is a file with a number, or with a line for each key and number.
type counterFile struct{ path, key string }

// NewMeter returns a Meter of the cgroup of a process, whose path contains name: a
// process in another cgroup, such as the host's, has no Meter. cgroups is the result of
// Cgroups, of either version of cgroups or of both. root is where they are mounted.
func NewMeter(root, cgroups, name string) Meter {
	var m Meter
	for line := range strings.Lines(cgroups) {
		// hierarchy-ID:controllers:path; see cgroups(7).
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || name == "" || !strings.Contains(f[2], name) {
			continue
		}
		if f[0] == "0" { // version 2, alone or beside version 1
			for _, dir := range []string{path.Join(root, f[2]), path.Join(root, "unified", f[2])} {
				m.useCPU(counterFile{path.Join(dir, "cpu.stat"), "usage_usec"}, time.Microsecond)
				m.useMemory(path.Join(dir, "memory.current"), path.Join(dir, "memory.stat"), "inactive_file")
			}
			continue
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			dir := path.Join(root, controller, f[2])
			switch controller {
			case "cpuacct":
				m.useCPU(counterFile{path: path.Join(dir, "cpuacct.usage")}, time.Nanosecond)
			case "memory":
				m.useMemory(path.Join(dir, "memory.usage_in_bytes"), path.Join(dir, "memory.stat"), "total_inactive_file")
			}
		}
	}
	return m
}

func (m *Meter) useCPU(f counterFile, unit time.Duration) {
	if _, ok := f.read(); ok && m.unit == 0 {
		m.cpu, m.unit = f, unit
	}
}

func (m *Meter) useMemory(used, stat, cacheKey string) {
	f := counterFile{path: used}
	if _, ok := f.read(); ok && m.memory.path == "" {
		m.memory, m.cache = f, counterFile{stat, cacheKey}
	}
}

// Read returns the usage. The memory does not contain the cache of files that were not
// used lately, which the kernel frees when memory is short. It reports false once the
// cgroup is gone, and without one.
func (m Meter) Read() (u Usage, ok bool) {
	cpu, ok := m.cpu.read()
	if !ok {
		return Usage{}, false
	}
	u.CPU = time.Duration(cpu) * m.unit
	if used, ok := m.memory.read(); ok {
		cache, _ := m.cache.read()
		u.Memory = max(0, used-cache)
	}
	return u, true
}

func (f counterFile) read() (int64, bool) {
	if f.path == "" {
		return 0, false
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return 0, false
	}
	for f.key != "" {
		line, rest, more := bytes.Cut(b, []byte{'\n'})
		if value, ok := bytes.CutPrefix(line, []byte(f.key+" ")); ok {
			b = value
			break
		}
		if b = rest; !more {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}
