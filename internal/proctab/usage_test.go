package proctab

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	for _, tt := range []struct {
		name, cgroups string
		files         map[string]string
		want          Usage
		known         bool
	}{
		{"version 2", "0::/user/libpod-abc/container\n", map[string]string{
			"user/libpod-abc/container/cpu.stat":       "usage_usec 2500000\nuser_usec 1\n",
			"user/libpod-abc/container/memory.current": "7000\n",
			"user/libpod-abc/container/memory.stat":    "anon 1\ninactive_file 3000\nactive_file 9\n",
		}, Usage{2500 * time.Millisecond, 4000}, true},
		{"version 1", "5:cpu,cpuacct:/p/libpod-abc\n4:memory:/p/libpod-abc\n1:name=systemd:/p/libpod-abc\n", map[string]string{
			"cpuacct/p/libpod-abc/cpuacct.usage":        "2500000000\n",
			"memory/p/libpod-abc/memory.usage_in_bytes": "7000\n",
			"memory/p/libpod-abc/memory.stat":           "inactive_file 1\ntotal_inactive_file 3000\n",
		}, Usage{2500 * time.Millisecond, 4000}, true},
		{"both, with memory in version 1", "4:memory:/libpod-abc\n0::/libpod-abc\n", map[string]string{
			"memory/libpod-abc/memory.usage_in_bytes": "7000\n",
			"unified/libpod-abc/cpu.stat":             "usage_usec 1\n",
		}, Usage{time.Microsecond, 7000}, true},
		{"no memory", "2:cpuacct:/libpod-abc\n", map[string]string{
			"cpuacct/libpod-abc/cpuacct.usage": "5",
		}, Usage{CPU: 5}, true},
		{"the host's cgroup", "0::/\n", map[string]string{
			"cpu.stat": "usage_usec 1\n",
		}, Usage{}, false},
		{"gone", "0::/libpod-abc\n", nil, Usage{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m := NewMeter(root, tt.cgroups, "abc")
			if got, ok := m.Read(); got != tt.want || ok != tt.known {
				t.Errorf("got %+v, %v; want %+v, %v", got, ok, tt.want, tt.known)
			}
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
			if got, ok := m.Read(); ok {
				t.Errorf("of a cgroup that is gone: %+v", got)
			}
		})
	}
}

func TestUsageOf(t *testing.T) {
	table := []Process{
		{ID: ID{PID: 10}, CPU: time.Second, Memory: 100},
		{ID: ID{PID: 12}, Parent: 11, CPU: 2 * time.Second, Memory: 10},
		{ID: ID{PID: 11}, Parent: 10, CPU: 4 * time.Second, Memory: 1},
		{ID: ID{PID: 20}, CPU: time.Hour, Memory: 1 << 30},
	}
	if got, ok := UsageOf(table, map[int]bool{10: true}); !ok || got != (Usage{7 * time.Second, 111}) {
		t.Errorf("got %+v, %v", got, ok)
	}
	if got, ok := UsageOf(table, map[int]bool{99: true}); ok || got != (Usage{}) {
		t.Errorf("of a process that is gone: %+v, %v", got, ok)
	}
}
