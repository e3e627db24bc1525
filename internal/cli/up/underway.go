package up

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// metricsTimeout bounds the request for the number of running calls.
	metricsTimeout = 500 * time.Millisecond
	// callDrain is how long a controller that stops waits for its calls.
	callDrain = 5 * time.Second
)

// forceText is printed at the second signal. Workers that take too long are
// killed, and leave their containers behind.
const forceText = "stopping everything at once; a container that takes longer than 3 s to stop may be left behind"

// stopText says what a stop waits for.
func stopText(calls int) string {
	if calls == 0 {
		return "stopping"
	}
	are := "1 call is under way and has"
	if calls > 1 {
		are = fmt.Sprintf("%d calls are under way and have", calls)
	}
	return fmt.Sprintf("stopping: %s %g s to end; press Ctrl-C again to stop at once", are, callDrain.Seconds())
}

// callsUnderWay returns the number of running and queued calls at all
// controllers. A controller that does not answer in time counts as idle.
func callsUnderWay(ctx context.Context, httpAddresses []string) int {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	total := 0
	for _, front := range httpAddresses {
		all.Go(func() {
			n := callsOf(ctx, front)
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	all.Wait()
	return total
}

// callsOf returns the number of running and queued calls at one controller, from
// its metrics.
func callsOf(ctx context.Context, front string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+front+"/metrics", nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	total := 0.0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), "} ")
		name, _, _ := strings.Cut(series, "{")
		if name != "mcpfleet_calls_ongoing" && name != "mcpfleet_calls_queued" {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			total += n
		}
	}
	return int(total)
}
