package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// proc is a process of a subject and its role.
type proc struct {
	role string
	pid  int
}

// clockTick is the unit of /proc/PID/stat's times on Linux, USER_HZ.
const clockTick = 10 * time.Millisecond

// cpuTimes returns user and system time by role. It skips processes that cannot be
// read.
func cpuTimes(procs []proc) map[string]time.Duration {
	out := make(map[string]time.Duration)
	for _, p := range procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			continue
		}
		_, rest, ok := bytes.Cut(b, []byte(") ")) // the name may have spaces
		f := strings.Fields(string(rest))
		if !ok || len(f) < 13 {
			continue
		}
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		out[p.role] += time.Duration(user+system) * clockTick
	}
	return out
}

// replicaProcs returns the processes of one replica. For a container these are the
// server, podman's init in front of it, and conmon above both.
func replicaProcs(kind string, pid int) []proc {
	if kind == "process" {
		return []proc{{"server", pid}}
	}
	out := []proc{{"init", pid}}
	if parent := parentOf(pid); parent > 1 {
		out = append(out, proc{"conmon", parent})
	}
	if servers := childrenOf(pid, "server"); len(servers) > 0 {
		return append(out, servers...)
	}
	out[0].role = "server" // without init the server is PID 1 itself
	return out
}

func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	f := strings.Fields(string(rest))
	if len(f) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(f[1])
	return parent
}

type memoryRow struct {
	subject, role string
	rss, pss      int64 // bytes
}

// idleMemory returns the memory of each process of a subject before any load.
func idleMemory(name string, procs []proc) []memoryRow {
	var rows []memoryRow
	for _, p := range procs {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil || p.role == "driver" {
			continue
		}
		rows = append(rows, memoryRow{name, p.role, kilobytes(b, "Rss:"), kilobytes(b, "Pss:")})
	}
	return rows
}

func kilobytes(status []byte, key string) int64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// medianOf combines several runs of a point in one result, field by field.
func medianOf(runs []result) result {
	med := func(get func(result) float64) float64 {
		v := make([]float64, len(runs))
		for i, r := range runs {
			v[i] = get(r)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	dur := func(get func(result) time.Duration) time.Duration {
		return time.Duration(med(func(r result) float64 { return float64(get(r)) }))
	}
	out := result{
		rate: med(func(r result) float64 { return r.rate }),
		p50:  dur(func(r result) time.Duration { return r.p50 }),
		p90:  dur(func(r result) time.Duration { return r.p90 }),
		p99:  dur(func(r result) time.Duration { return r.p99 }),
		max:  dur(func(r result) time.Duration { return r.max }),
		cpu:  make(map[string]time.Duration),
	}
	for role := range runs[0].cpu {
		out.cpu[role] = dur(func(r result) time.Duration { return r.cpu[role] })
	}
	return out
}
