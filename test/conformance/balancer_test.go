//go:build linux

package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// newBalancer returns a handler that sends each request to the next of some controllers, so
// that none sees two requests of a session in a row. A request that cannot be sent to one
// goes to another.
func newBalancer(addresses []string) http.Handler {
	var next atomic.Uint64
	transport := &http.Transport{
		MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
			for range addresses {
				at := addresses[next.Add(1)%uint64(len(addresses))]
				if conn, err = new(net.Dialer).DialContext(ctx, network, at); err == nil {
					return conn, nil
				}
			}
			return nil, err
		},
		DisableKeepAlives: true, // a connection for each request
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "controllers"})
			r.Out.Host = r.In.Host // controllers check it
		},
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // the client's connection breaks as the controller's did
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Otherwise net/http closes the request's body as the answer begins. The transport,
		// which may still be about to read the body's end, then drops its connection, and
		// with it the rest of the answer.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			panic(err) // cannot happen: this is HTTP/1.1
		}
		proxy.ServeHTTP(w, r)
	})
}

// serveBalancer serves a balancer until the end of a test, and returns its address.
func serveBalancer(t testing.TB, addresses []string) string {
	t.Helper()
	server := httptest.NewUnstartedServer(newBalancer(addresses))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return "http://" + localhost(server.Listener.Addr().String())
}

// A controller may answer before the balancer has seen that the request has ended.
func TestBalancerKeepsEarlyAnswers(t *testing.T) {
	goOn := make(chan struct{})
	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintln(w, "first")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-goOn:
			fmt.Fprintln(w, "second")
		case <-r.Context().Done():
		}
	}))
	defer controller.Close()
	balancer := newBalancer([]string{controller.Listener.Addr().String()})
	ends := make(chan error, 1)
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := &begunWriter{ResponseWriter: w, begun: make(chan struct{})}
		r.Body = &lateEnd{ReadCloser: r.Body, late: begun.begun, ends: ends}
		balancer.ServeHTTP(begun, r)
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	defer front.Close()

	resp, err := http.Post(front.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || lines.Text() != "first" {
		t.Fatalf("the answer begins with %q (%v)", lines.Text(), lines.Err())
	}
	if err := <-ends; !errors.Is(err, io.EOF) {
		t.Errorf("the body ends with %v", err)
	}
	close(goOn)
	if !lines.Scan() || lines.Text() != "second" {
		t.Errorf("the answer goes on with %q (%v)", lines.Text(), lines.Err())
	}
}

// lateEnd is a request's body whose end can be read once the answer has begun.
type lateEnd struct {
	io.ReadCloser
	late  <-chan struct{}
	ends  chan<- error
	begun bool
}

// Read implements io.Reader.
func (b *lateEnd) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		n, _ := b.ReadCloser.Read(p) // all of it
		return n, nil
	}
	<-b.late
	n, err := b.ReadCloser.Read(p)
	b.ends <- err
	return n, err
}

// begunWriter closes begun once an answer has begun.
type begunWriter struct {
	http.ResponseWriter
	once  sync.Once
	begun chan struct{}
}

// FlushError sends what was written so far.
func (w *begunWriter) FlushError() error {
	err := http.NewResponseController(w.ResponseWriter).Flush()
	w.once.Do(func() { close(w.begun) })
	return err
}

// Unwrap lets http.ResponseController find the connection.
func (w *begunWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
