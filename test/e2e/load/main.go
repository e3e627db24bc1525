// Command load calls a tool over HTTP from many connections at once, checks every
// answer, and prints the results as JSON. It is a separate program so that the
// race detector and the rest of a test do not slow it down. It writes HTTP by
// itself to use little CPU.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is the output.
type report struct {
	Calls   int64   `json:"calls"`
	Bad     int64   `json:"bad"`
	First   string  `json:"first"` // of the bad answers
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

func main() {
	addr := flag.String("addr", "", "host:port of the controller")
	path := flag.String("path", "/call", "where to post")
	callers := flag.Int("callers", 64, "connections")
	calls := flag.Int64("calls", 0, "how many calls, all callers together; 0: until -for is over")
	during := flag.Duration("for", time.Hour, "for how long")
	flag.Parse()

	l := &load{addr: *addr, path: *path, left: *calls, over: time.Now().Add(*during)}
	if *calls == 0 {
		l.left = 1 << 62
	}
	begin := time.Now()
	var group sync.WaitGroup
	took := make([][]time.Duration, *callers)
	for i := range took {
		group.Go(func() { took[i] = l.caller(i) })
	}
	group.Wait()

	all := slices.Concat(took...)
	slices.Sort(all)
	r := report{Calls: int64(len(all)), Bad: l.bad.Load(), Seconds: time.Since(begin).Seconds()}
	if first := l.first.Load(); first != nil {
		r.First = *first
	}
	if n := len(all); n > 0 {
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		r.P50, r.P99, r.Max = ms(all[n/2]), ms(all[n*99/100]), ms(all[n-1])
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		os.Exit(1)
	}
}

type load struct {
	addr, path string
	over       time.Time

	mu   sync.Mutex
	left int64

	bad   atomic.Int64
	first atomic.Pointer[string]
}

// take reports whether there is another call to make.
func (l *load) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left--
	return l.left >= 0 && time.Now().Before(l.over)
}

// caller makes one call after the other, and returns their durations.
func (l *load) caller(number int) []time.Duration {
	var took []time.Duration
	var conn net.Conn
	var in *bufio.Reader
	for n := 0; l.take(); n++ {
		if conn == nil {
			var err error
			if conn, err = net.Dial("tcp", l.addr); err != nil {
				l.fault(err.Error())
				return took
			}
			in = bufio.NewReaderSize(conn, 16<<10)
		}
		text := fmt.Sprintf("caller %d call %d", number, n)
		begin := time.Now()
		err := l.call(conn, in, text)
		took = append(took, time.Since(begin))
		if err != nil {
			l.fault(err.Error())
			conn.Close()
			conn = nil
		}
	}
	if conn != nil {
		conn.Close()
	}
	return took
}

func (l *load) fault(what string) {
	l.bad.Add(1)
	l.first.CompareAndSwap(nil, &what)
}

// call makes one call, and checks that its own text comes back.
func (l *load) call(conn net.Conn, in *bufio.Reader, text string) error {
	body := `{"tool_name":"echo","tool_args":{"text":"` + text + `"}}`
	request := "POST " + l.path + " HTTP/1.1\r\nHost: " + l.addr + "\r\nContent-Type: application/json\r\nContent-Length: " +
		strconv.Itoa(len(body)) + "\r\n\r\n" + body
	if _, err := conn.Write([]byte(request)); err != nil {
		return err
	}
	status, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	length := -1
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("no header: %w", err)
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer without length: %s", status)
	}
	answer := make([]byte, length)
	for at := 0; at < length; {
		n, err := in.Read(answer[at:])
		if err != nil {
			return fmt.Errorf("no whole answer: %w", err)
		}
		at += n
	}
	if !strings.Contains(status, " 200 ") || !bytes.Contains(answer, []byte(`"`+text+`"`)) {
		return fmt.Errorf("%q was answered with %s%s", text, status, answer)
	}
	return nil
}
