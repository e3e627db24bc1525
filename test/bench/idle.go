package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// idleClients is how many sessions or streams wait at once.
const idleClients = 1000

// idleRow is what a number of idle clients costs a controller.
type idleRow struct {
	kind     string
	rss, pss int64         // more than before, bytes, of all clients
	before   time.Duration // CPU time a minute before they came
	cpu      time.Duration // and while they wait
}

// measureIdle has clients come to a fresh controller and wait there, once for each
// kind of waiting.
func measureIdle(ctx context.Context, cfg config, stderr io.Writer) (rows []idleRow, err error) {
	for _, kind := range []struct {
		name string
		wait func(ctx context.Context, c *mcpClient) error
	}{
		{"legacy sessions", waitSession},
		{"legacy sessions, each with its GET stream", waitGet},
		{"modern `subscriptions/listen` streams", waitListen},
	} {
		row, err := idle(ctx, cfg, kind.wait)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		row.kind = kind.name
		rows = append(rows, row)
		fmt.Fprintf(stderr, "idle %-42s RSS +%.1f MiB  CPU %s a minute, %s before\n", row.kind, mib(row.rss), row.cpu, row.before)
	}
	return rows, nil
}

// idle measures one kind of waiting. wait returns once its client waits, which ends
// with the context.
func idle(ctx context.Context, cfg config, wait func(context.Context, *mcpClient) error) (row idleRow, err error) {
	var undo cleanup
	defer undo.run()
	dir, spec, err := prepare(ctx, "process", &undo)
	if err != nil {
		return row, err
	}
	addr, procs, err := runFleet(ctx, cfg, dir, "process", spec, &undo)
	if err != nil {
		return row, err
	}
	if _, err := readyReplicas(ctx, addr, 1); err != nil {
		return row, err
	}
	controller := procs[1:2]
	client, closeIdle := newMCPClient("http://" + addr + "/bench/mcp")
	undo.add(closeIdle)
	if _, err := client.initialize(ctx); err != nil { // what the first request allocates is no client's
		return row, err
	}
	if row.before, err = idleCPU(ctx, cfg, controller); err != nil {
		return row, err
	}
	before := idleMemory("", controller)[0]

	ctx, leave := context.WithCancel(ctx)
	undo.add(leave)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		fail error
	)
	const at = 16 // at once, so that this is no storm
	for n := range at {
		wg.Go(func() {
			for i := n; i < idleClients; i += at {
				if err := wait(ctx, client); err != nil {
					mu.Lock()
					fail = err
					mu.Unlock()
					return
				}
			}
		})
	}
	if wg.Wait(); fail != nil {
		return row, fail
	}
	if row.cpu, err = idleCPU(ctx, cfg, controller); err != nil {
		return row, err
	}
	after := idleMemory("", controller)[0]
	row.rss, row.pss = after.rss-before.rss, after.pss-before.pss
	return row, nil
}

// idleCPU returns the CPU time a minute of processes that have nothing to do, after a
// moment in which they finish what they did.
func idleCPU(ctx context.Context, cfg config, procs []proc) (time.Duration, error) {
	if err := sleep(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	from := cpuTimes(procs)
	if err := sleep(ctx, cfg.idle); err != nil {
		return 0, err
	}
	var used time.Duration
	for role, t := range cpuTimes(procs) {
		used += t - from[role]
	}
	return time.Duration(float64(used) / cfg.idle.Minutes()), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func waitSession(ctx context.Context, c *mcpClient) error {
	_, err := c.initialize(ctx)
	return err
}

func waitGet(ctx context.Context, c *mcpClient) error {
	session, err := c.initialize(ctx)
	if err != nil {
		return err
	}
	req, err := c.request(ctx, http.MethodGet, nil, sessionHeader(session))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET: %w", drain(resp, http.StatusOK))
	}
	return nil // the connection stays until ctx ends
}

func waitListen(ctx context.Context, c *mcpClient) error {
	const method = "subscriptions/listen"
	resp, err := c.post(ctx, method, c.ids.Add(1), map[string]any{
		"notifications": map[string]bool{"toolsListChanged": true}, "_meta": modernMeta}, modernHeader(method, ""))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("listen: %w", drain(resp, http.StatusOK))
	}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.Contains(lines.Text(), "notifications/subscriptions/acknowledged") {
			return nil // as for waitGet
		}
	}
	return fmt.Errorf("listen: no acknowledgement")
}

// writeIdle writes what one client costs.
func writeIdle(b *strings.Builder, rows []idleRow) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### Idle clients\n\n%d clients come to a fresh controller with one server and then say nothing. Memory is what\n"+
		"the controller has grown by, for each client. It includes what opening has left for the garbage\n"+
		"collector. CPU is that of the controller in a minute.\n\n", idleClients)
	b.WriteString("| clients | RSS KiB each | PSS KiB each | CPU s a minute | before they came |\n|---|--:|--:|--:|--:|\n")
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %.1f | %.1f | %.2f | %.2f |\n", r.kind,
			float64(r.rss)/idleClients/1024, float64(r.pss)/idleClients/1024, r.cpu.Seconds(), r.before.Seconds())
	}
}
