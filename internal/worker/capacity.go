package worker

import (
	"io/fs"
	"math"
	"path"
	"runtime"
	"strconv"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Capacity returns what this process may use: the machine's CPUs and memory, or less
// if its control group limits them. root is the root of the file system. A resource
// that cannot be found out is zero.
func Capacity(root fs.FS) fleet.Resources {
	r := fleet.Resources{CPUs: float64(runtime.NumCPU()), Memory: memTotal(root)}
	for _, dir := range groups(root) {
		if cpus := cpuLimit(root, dir); cpus > 0 && cpus < r.CPUs {
			r.CPUs = cpus
		}
		for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
			limit, err := strconv.ParseInt(field(root, path.Join(dir, file), 0), 10, 64)
			if err == nil && limit > 0 && (r.Memory == 0 || limit < r.Memory) {
				r.Memory = limit
			}
		}
	}
	return r
}

// groups returns the directories whose limits apply to this process, in the layouts
// of both versions: those of its own group and of all groups above.
func groups(root fs.FS) []string {
	const mount = "sys/fs/cgroup"
	b, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(b)) {
		// 0::/group for version 2, 4:memory:/group for version 1
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, top := range []string{path.Join(mount, parts[1]), path.Join(mount, "unified")} {
			for group := path.Clean("/" + parts[2]); ; group = path.Dir(group) {
				dirs = append(dirs, path.Join(top, group))
				if group == "/" {
					break
				}
			}
		}
	}
	return dirs
}

// cpuLimit returns the CPU bandwidth of a group in cores, 0 if it is not limited.
func cpuLimit(root fs.FS, dir string) float64 {
	quota, period := field(root, path.Join(dir, "cpu.max"), 0), field(root, path.Join(dir, "cpu.max"), 1)
	if quota == "" {
		quota, period = field(root, path.Join(dir, "cpu.cfs_quota_us"), 0), field(root, path.Join(dir, "cpu.cfs_period_us"), 0)
	}
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 { // "max", or -1
		return 0
	}
	return math.Round(q/p*100) / 100
}

// field returns the nth word of a small file, or "".
func field(root fs.FS, name string, n int) string {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return ""
	}
	if words := strings.Fields(string(b)); n < len(words) {
		return words[n]
	}
	return ""
}

// memTotal returns the memory of the machine in bytes, 0 if it is not known.
func memTotal(root fs.FS) int64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(words[1], 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
