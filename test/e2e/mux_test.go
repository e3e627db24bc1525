//go:build linux

package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/test/harness"
)

// loadReport is the output of the load program.
type loadReport struct {
	Calls, Bad int64
	First      string
	Seconds    float64
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	Max        float64 `json:"max_ms"`
}

// load runs the load program against a server, and fails the test if an answer is
// wrong.
func (c *Cluster) load(server string, args ...string) loadReport {
	c.t.Helper()
	out, err := exec.Command(program("load"), append([]string{"-addr", c.Controller.Addr.HTTP, "-path", "/" + server + "/call"}, args...)...).Output()
	if err != nil {
		c.t.Fatalf("load: %v", err)
	}
	var r loadReport
	if err := json.Unmarshal(out, &r); err != nil {
		c.t.Fatalf("load: %v in %s", err, out)
	}
	if r.Bad != 0 || r.Calls == 0 {
		c.t.Fatalf("of %d calls %d went wrong, the first: %s", r.Calls, r.Bad, r.First)
	}
	return r
}

// One client reads a reply of 64 MiB very slowly, and one child stops reading its
// stdin. 64 other callers on the same worker are hardly affected.
//
// The machine is shared, so nothing is compared with a constant. Phases with and
// without the two disturbances alternate, and the test compares the medians of
// the phases' p99. Noise that lasts longer than a phase affects both kinds. Shorter
// noise affects fewer than half of the rounds. slack is for a quiet machine, on
// which twice a p99 of a few milliseconds is less than one tick of the scheduler.
func TestSlowReaderAndHungChildStallNobody(t *testing.T) {
	rounds, phase := 7, "1s"
	if testing.Short() {
		rounds, phase = 3, "500ms"
	}
	const slack = 5.0 // ms
	c := NewCluster(t, "process")
	c.Fleet(`servers:
  others: { command: [%[1]q], replicas: 2, max_ongoing_requests: 64, env: { TOKEN: %[2]s } }
  big: { command: [%[1]q], env: { TOKEN: %[2]s } }
  hung: { command: [%[1]q], env: { TOKEN: %[2]s } }
`, program("testserver"), c.token)
	c.Start(1)
	c.load("others", "-for", phase) // warms up

	var calm, disturbed []float64
	for range rounds {
		calm = append(calm, c.load("others", "-for", phase).P99)

		endHung := c.hang("hung")
		trickle := c.trickle("big", 64<<20)
		disturbed = append(disturbed, c.load("others", "-for", phase).P99)
		if taken := trickle.stop(); taken > 8<<20 {
			t.Errorf("the slow reader took %d bytes: it was not slow", taken)
		}
		endHung()
		c.AwaitReady(1)
	}
	t.Logf("p99 in ms without %.1f, with %.1f", calm, disturbed)
	if before, after := median(calm), median(disturbed); after > 2*before+slack {
		t.Errorf("median p99 of others is %.1f ms, and %.1f ms without the disturbance", after, before)
	}

	// At full speed the client gets the complete reply.
	status, b := post(t, "http://"+c.Controller.Addr.HTTP+"/big/call", fmt.Sprintf(`{"tool_name":"big","tool_args":{"bytes":%d}}`, 64<<20))
	want := `{"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 64<<20) + `"}]}}`
	if status != http.StatusOK || string(b) != want {
		t.Errorf("a reply of 64 MiB came as %d with %d bytes, want %d", status, len(b), len(want))
	}
}

// median returns the median of values in any order.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// hang makes the only replica of a server stop reading, and sends it more than a
// pipe can buffer. The returned function ends the replica and waits for the calls.
func (c *Cluster) hang(server string) (end func()) {
	c.t.Helper()
	replica := c.ReplicasOf(server, "READY")[0]
	var calls sync.WaitGroup
	send := func(tool, text string) {
		calls.Go(func() {
			_, err := c.Text(server, tool, fmt.Sprintf(`{"text":%q}`, text))
			// The others may be repeated once the replica is gone.
			if tool == "hang" && err == nil {
				c.t.Errorf("%s was answered by a server that hangs", tool)
			}
		})
	}
	send("hang", "")
	harness.Eventually(c.t, patience, func() error {
		lines := new(strings.Builder)
		if err := c.Logs(c.t.Context(), replica.ID, logOptions, lines); err != nil {
			return err
		}
		if !strings.Contains(lines.String(), "reading no more") {
			return fmt.Errorf("it reads on: %s", lines)
		}
		return nil
	})
	for range 7 {
		send("echo", strings.Repeat("y", 1<<20))
	}
	harness.Eventually(c.t, patience, func() error { // all have been sent
		if r := c.ReplicasOf(server, "READY"); len(r) != 1 || r[0].Ongoing != 8 {
			return fmt.Errorf("replicas: %+v", r)
		}
		return nil
	})
	return func() {
		if err := syscall.Kill(*replica.PID, syscall.SIGKILL); err != nil {
			c.t.Errorf("kill the server that hangs: %v", err)
		}
		calls.Wait()
	}
}

// trickle is a client that reads an answer slowly.
type trickle struct {
	conn  net.Conn
	over  chan struct{}
	taken chan int
}

// trickle requests a big reply and returns when it begins to arrive.
func (c *Cluster) trickle(server string, size int) *trickle {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.Controller.Addr.HTTP)
	if err != nil {
		c.t.Fatal(err)
	}
	// The kernel's buffer must be small, since it fills at full speed.
	if err := conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		c.t.Fatal(err)
	}
	body := `{"tool_name":"big","tool_args":{"bytes":` + strconv.Itoa(size) + `}}`
	fmt.Fprintf(conn, "POST /%s/call HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", server, len(body), body)
	r := bufio.NewReaderSize(conn, 4<<10)
	status, err := r.ReadString('\n')
	if err != nil || !strings.Contains(status, " 200 ") {
		c.t.Fatalf("the big reply began with %q (%v)", status, err)
	}
	t := &trickle{conn: conn, over: make(chan struct{}), taken: make(chan int, 1)}
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for {
			select {
			case <-t.over:
				t.taken <- n
				return
			case <-tick.C:
			}
			got, err := io.CopyN(io.Discard, r, 4<<10)
			n += int(got)
			if err != nil {
				t.taken <- 1 << 40 // the reply has ended too soon
				return
			}
		}
	}()
	return t
}

// stop closes the connection, and returns the number of bytes that were read.
func (t *trickle) stop() int {
	close(t.over)
	defer t.conn.Close()
	return <-t.taken
}
