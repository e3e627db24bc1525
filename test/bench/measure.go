package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// subject is one way to reach the echo tool.
type subject struct {
	name  string
	start func(ctx context.Context, cfg config) (*running, error)
}

// running is a started subject, with at least one path to its tool.
type running struct {
	paths []path
	procs []proc
	stop  func()
}

// path is one way to call a started subject. call sends one text, checks that the same
// text comes back, and may be used by many callers at once.
type path struct {
	name string
	call func(ctx context.Context, text string) error
	max  int // the largest text it is measured with; 0: any
}

// point is one measurement: a subject at a number of callers and a size.
type point struct {
	subject       string
	callers, size int
}

// result has the figures of one run of a point. Medians over several runs are
// computed field by field.
type result struct {
	rate               float64 // calls a second
	p50, p90, p99, max time.Duration
	cpu                map[string]time.Duration // a call, by role of the process
}

func measure(ctx context.Context, cfg config, stdout, stderr io.Writer) error {
	subjects := []subject{
		{"pipe", startPipe},
		{"http", startHTTP},
		{"naive", startNaive},
		{"worker", startWorker("process")},
		{"mcpfleet", startFleet("process")},
		{"go-sdk", startGateway("go-sdk")},
		{"mcp-go", startGateway("mcp-go")},
	}
	if cfg.podman != "no" {
		subjects = append(subjects,
			subject{"worker+podman", startWorker("podman")},
			subject{"mcpfleet+podman", startFleet("podman")})
	}
	if cfg.only != "" {
		names := strings.Split(cfg.only, ",")
		subjects = slices.DeleteFunc(subjects, func(s subject) bool { return !slices.Contains(names, s.name) })
	}

	up := make(map[string]*running)
	defer func() {
		for _, r := range up {
			r.stop()
		}
	}()
	type started struct {
		path
		procs []proc
	}
	var paths []started
	var memory []memoryRow
	for _, s := range subjects {
		fmt.Fprintf(stderr, "starting %s\n", s.name)
		r, err := s.start(ctx, cfg)
		if err != nil {
			if cfg.podman == "auto" && strings.HasSuffix(s.name, "+podman") {
				fmt.Fprintf(stderr, "left out: %s: %v\n", s.name, err)
				continue
			}
			return fmt.Errorf("start %s: %w", s.name, err)
		}
		up[s.name] = r
		for _, p := range r.paths {
			paths = append(paths, started{p, r.procs})
		}
		memory = append(memory, idleMemory(s.name, r.procs)...)
	}

	results := make(map[point][]result)
	for round := range cfg.rounds {
		for _, size := range cfg.sizes {
			for _, callers := range cfg.callers {
				for i := range paths {
					path := paths[(i+round)%len(paths)] // no path is always first
					if path.max > 0 && size > path.max {
						continue
					}
					r, err := load(ctx, path.call, path.procs, callers, size, cfg.duration)
					if err != nil {
						return fmt.Errorf("%s with %d callers of %d bytes: %w", path.name, callers, size, err)
					}
					p := point{path.name, callers, size}
					results[p] = append(results[p], r)
					fmt.Fprintf(stderr, "round %d  %-16s C=%-3d %8d B  %9.0f calls/s  p50 %s  p99 %s\n",
						round+1, path.name, callers, size, r.rate, r.p50.Round(time.Microsecond), r.p99.Round(time.Microsecond))
				}
			}
		}
	}
	for name, r := range up {
		r.stop()
		delete(up, name)
	}
	var overload []overloadRow
	if cfg.overload {
		var err error
		if overload, err = measureOverload(ctx, cfg, stderr); err != nil {
			return fmt.Errorf("overload: %w", err)
		}
	}
	var waiting []idleRow
	if cfg.idle > 0 {
		var err error
		if waiting, err = measureIdle(ctx, cfg, stderr); err != nil {
			return fmt.Errorf("idle clients: %w", err)
		}
	}
	var order []string
	for _, p := range paths {
		order = append(order, p.name)
	}
	return report(cfg, order, results, memory, overload, waiting, stdout)
}

// load drives one path with a number of callers, each waiting for its reply before its
// next call, after a warm-up of a tenth of the time.
func load(ctx context.Context, call func(context.Context, string) error, procs []proc, callers, size int, d time.Duration) (result, error) {
	filler := strings.Repeat("the quick brown fox jumps over the lazy dog, ", size/45+1)
	warm := time.Now().Add(d / 10)
	end := warm.Add(d)
	ctx, cancel := context.WithDeadline(ctx, end.Add(30*time.Second))
	defer cancel()

	var (
		mu   sync.Mutex
		all  []time.Duration
		fail error
		wg   sync.WaitGroup
	)
	warmed := make(chan struct{}) // closed when the first caller is past the warm-up
	var once sync.Once
	for caller := range callers {
		wg.Go(func() {
			var took []time.Duration
			for n := 0; ; n++ {
				head := fmt.Sprintf("%d.%d.", caller, n)
				text := head + filler[:max(0, size-len(head))]
				start := time.Now()
				if start.After(end) {
					break
				}
				if start.After(warm) {
					once.Do(func() { close(warmed) })
				}
				if err := call(ctx, text); err != nil {
					mu.Lock()
					fail = err
					mu.Unlock()
					once.Do(func() { close(warmed) })
					return
				}
				if start.After(warm) {
					took = append(took, time.Since(start))
				}
			}
			once.Do(func() { close(warmed) })
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	<-warmed
	before := cpuTimes(procs)
	from := time.Now()
	wg.Wait()
	elapsed := time.Since(from)
	if fail != nil {
		return result{}, fail
	}
	if len(all) == 0 {
		return result{}, fmt.Errorf("not one call was answered within %s", d)
	}
	after := cpuTimes(procs)
	slices.Sort(all)
	out := result{
		rate: float64(len(all)) / elapsed.Seconds(),
		p50:  quantile(all, 0.50), p90: quantile(all, 0.90), p99: quantile(all, 0.99), max: all[len(all)-1],
		cpu: make(map[string]time.Duration),
	}
	for role, t := range after {
		out.cpu[role] = (t - before[role]) / time.Duration(len(all))
	}
	return out, nil
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
