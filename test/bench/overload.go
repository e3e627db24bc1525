package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// The overloaded server has 4 replicas that take 8 calls each, so it serves 32
// calls at a time. The last two numbers of callers are ten and thirty times
// that.
const (
	slowDelay    = 20 * time.Millisecond
	slowReplicas = 4
	slowOngoing  = 8
	retryAfter   = 20 * time.Millisecond // of a caller that ignores Retry-After
)

var overloadCallers = []int{32, 96, 320, 1000}

// overloadRow has the medians over the rounds for one number of callers.
type overloadRow struct {
	callers  int
	accepted result
	refused  float64 // a second
}

// measureOverload drives a server with more callers than it can serve. Each caller
// sends its next call when the last one is answered. It repeats a refused call
// after retryAfter.
func measureOverload(ctx context.Context, cfg config, stderr io.Writer) (rows []overloadRow, err error) {
	var undo cleanup
	defer undo.run()
	dir, err := os.MkdirTemp("", "mcpfleet-bench-")
	if err != nil {
		return nil, err
	}
	undo.add(func() { os.RemoveAll(dir) })
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	spec := map[string]any{
		"command": []string{path, "slow"}, "default_tool": "echo", "replicas": slowReplicas, "max_ongoing_requests": slowOngoing,
	}
	addr, procs, err := runFleet(ctx, cfg, dir, "process", spec, &undo)
	if err != nil {
		return nil, err
	}
	if _, err := readyReplicas(ctx, addr, slowReplicas); err != nil {
		return nil, err
	}
	runs := make(map[int][]result)
	refusals := make(map[int][]float64)
	for round := range cfg.rounds {
		for _, callers := range overloadCallers {
			accepted, refused, err := overload(ctx, addr, procs, callers, cfg.duration)
			if err != nil {
				return nil, fmt.Errorf("%d callers: %w", callers, err)
			}
			runs[callers] = append(runs[callers], accepted)
			refusals[callers] = append(refusals[callers], refused)
			fmt.Fprintf(stderr, "round %d  overload         C=%-4d  %9.0f calls/s  p50 %s  p99 %s  refused %.0f/s\n",
				round+1, callers, accepted.rate, accepted.p50.Round(time.Microsecond), accepted.p99.Round(time.Microsecond), refused)
		}
	}
	for _, callers := range overloadCallers {
		slices.Sort(refusals[callers])
		rows = append(rows, overloadRow{callers, medianOf(runs[callers]), refusals[callers][cfg.rounds/2]})
	}
	return rows, nil
}

// overload runs a number of callers against a server for a time, after as long
// a warm-up. It counts the calls that were answered, by the time from their
// last sending, and the refusals.
func overload(ctx context.Context, addr string, procs []proc, callers int, d time.Duration) (accepted result, refused float64, err error) {
	warm := time.Now().Add(d)
	end := warm.Add(d)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: callers, DisableCompression: true, DialContext: (&net.Dialer{}).DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}

	var (
		mu       sync.Mutex
		took     []time.Duration
		refusals int
		fail     error
		wg       sync.WaitGroup
	)
	for range callers {
		wg.Go(func() {
			var mine []time.Duration
			n := 0
			for ctx.Err() == nil {
				start := time.Now()
				status, err := post(ctx, client, addr)
				counts := start.After(warm)
				switch {
				case ctx.Err() != nil: // the time is over
				case err == nil && status == http.StatusOK:
					if counts {
						mine = append(mine, time.Since(start))
					}
				case err == nil && status == http.StatusServiceUnavailable:
					if counts {
						n++
					}
					select {
					case <-ctx.Done():
					case <-time.After(retryAfter):
					}
				default:
					mu.Lock()
					fail = fmt.Errorf("status %d: %w", status, err)
					mu.Unlock()
					cancel()
				}
			}
			mu.Lock()
			took, refusals = append(took, mine...), refusals+n
			mu.Unlock()
		})
	}
	var before map[string]time.Duration
	select {
	case <-time.After(time.Until(warm)):
		before = cpuTimes(procs)
	case <-ctx.Done():
	}
	wg.Wait()
	if fail != nil {
		return result{}, 0, fail
	}
	if len(took) == 0 {
		return result{}, 0, fmt.Errorf("not one call was answered within %s", d)
	}
	slices.Sort(took)
	accepted = result{
		rate: float64(len(took)) / d.Seconds(),
		p50:  quantile(took, 0.50), p90: quantile(took, 0.90), p99: quantile(took, 0.99), max: took[len(took)-1],
		cpu: make(map[string]time.Duration),
	}
	for role, t := range cpuTimes(procs) {
		accepted.cpu[role] = (t - before[role]) / time.Duration(len(took))
	}
	return accepted, float64(refusals) / d.Seconds(), nil
}

// post sends one call and returns the status of its answer, which it reads.
func post(ctx context.Context, client *http.Client, addr string) (status int, err error) {
	body := strings.NewReader(`{"tool_args":{"text":"hello"}}`)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/call", body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusOK && !bytes.Contains(reply, []byte("hello")) {
		return 0, fmt.Errorf("wrong reply: %.200s", reply)
	}
	return resp.StatusCode, nil
}

// writeOverload prints the rows with goodput relative to the best one.
func writeOverload(b *strings.Builder, rows []overloadRow) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### Overload\n\nA server of %d replicas with max_ongoing_requests %d, whose tool takes %s. Callers that are refused call again after %s.\n"+
		"Times are those of accepted calls, CPU is by accepted call.\n\n", slowReplicas, slowOngoing, slowDelay, retryAfter)
	b.WriteString("| callers | accepted/s | to the best | refused/s | p50 ms | p90 | p99 | max | CPU µs a call |\n")
	b.WriteString("|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	best := 0.0
	for _, r := range rows {
		best = max(best, r.accepted.rate)
	}
	for _, r := range rows {
		a := r.accepted
		fmt.Fprintf(b, "| %d | %.0f | %.2f | %.0f | %.2f | %.2f | %.2f | %.2f | %s |\n",
			r.callers, a.rate, a.rate/best, r.refused, ms(a.p50), ms(a.p90), ms(a.p99), ms(a.max), cpuText(a.cpu))
	}
}
