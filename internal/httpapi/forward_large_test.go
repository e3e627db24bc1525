package httpapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Answers over 1 MiB are passed on while they arrive. If they break off, so does
// the connection of the client.
func TestLargeAnswers(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 200_000)
	broken := false
	f, _ := following(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(large)))
		if broken {
			_, _ = io.WriteString(w, large[:2_000_000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, large)
	}))
	srv := f.serve(t)
	for _, broken = range []bool{false, true} {
		resp, err := http.Get(srv.URL + "/api/v1/backup")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if broken && err == nil {
			t.Errorf("a broken answer looks whole: %d bytes", len(got))
		}
		if !broken && (err != nil || string(got) != large || resp.ContentLength != int64(len(large))) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
}

// Bodies of concurrent requests are not mixed up, even if the leader dies.
func TestManyForwarded(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	f, _ := following(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		name := strings.TrimPrefix(r.URL.Path, "/api/v1/servers/")
		if err != nil || string(raw) != `{"image":"`+name+`"}` {
			t.Errorf("%s got %s, %v", name, raw, err)
		}
		mu.Lock()
		seen[name]++
		die := len(seen)%3 == 0
		mu.Unlock()
		if die {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "{}")
	}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 25 {
				name := fmt.Sprintf("s%d-%d", i, k)
				if w := f.do("PUT", "/api/v1/servers/"+name, `{"image":"`+name+`"}`); w.Code != 200 && w.Code != 503 {
					t.Errorf("got %d %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was sent %d times", name, n)
		}
	}
}

// The follower waits in a blocking read. The leader gets the request without the
// wait.
func TestForwardedAfterTheWait(t *testing.T) {
	var got string
	leader := newFixture()
	f, _ := following(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.String()
		leader.handler.ServeHTTP(w, r)
	}))
	wantOK[api.Servers](t, f.do("GET", "/api/v1/servers?index=1&wait=10ms&x=y", ""), 200)
	if got != "/api/v1/servers?x=y" {
		t.Errorf("the leader got %s", got)
	}
}

// Requests that follow each other share one connection to the leader. The clock is
// fake because net/http gives up a connection whose writing goroutine has not
// reported within 50 ms, which happens on a busy machine.
func TestForwardingReusesConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := make(pipeListener)
		srv := &http.Server{Handler: newFixture().handler}
		var serving sync.WaitGroup
		serving.Go(func() { _ = srv.Serve(l) })
		defer serving.Wait()
		defer srv.Close()

		opened := 0
		transport := newTransport()
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			opened++
			near, far := net.Pipe()
			l <- far
			return &countedConn{Conn: near}, nil
		}
		f := newFixture(func(c *config) { c.Transport = transport })
		defer f.api.Close()
		f.desired.become(follows("127.0.0.1:80"))
		for range 20 {
			wantOK[api.Servers](t, f.do("GET", "/api/v1/servers", ""), 200)
		}
		if opened != 1 {
			t.Errorf("%d connections for 20 requests", opened)
		}
	})
}

// pipeListener accepts the connections that are sent to it.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error {
	close(l)
	return nil
}

func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
