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
	// askPatience is how long a stop waits to learn how many calls run.
	askPatience = 500 * time.Millisecond
	// callPatience is how long a controller that stops gives its calls.
	callPatience = 5 * time.Second
)

// forceText is said at the second signal. Workers that take too long are killed
// and leave their containers behind.
const forceText = "ending everything at once; a container that takes longer than 3 s to end may be left"

// stopText says what a stop waits for.
func stopText(calls int) string {
	if calls == 0 {
		return "stopping"
	}
	are := "1 call is under way and has"
	if calls > 1 {
		are = fmt.Sprintf("%d calls are under way and have", calls)
	}
	return fmt.Sprintf("stopping: %s %g s to end; Ctrl-C again ends everything at once", are, callPatience.Seconds())
}

// callsUnderWay asks all controllers how many calls they serve now, those in a
// queue included. One that does not answer soon counts as having none.
func callsUnderWay(ctx context.Context, fronts []string) int {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	total := 0
	for _, front := range fronts {
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

// callsOf reads one controller's metrics.
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
