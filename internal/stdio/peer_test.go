package stdio_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// peer is the server's end of a conversation, played by the test.
type peer struct {
	t   *testing.T
	in  net.Conn // the server's stdin
	buf *bufio.Reader
	out net.Conn // the server's stdout
}

func withPeer(t *testing.T, cfg stdio.Config) (*conversation, *peer) {
	t.Helper()
	childIn, in := net.Pipe()
	out, childOut := net.Pipe()
	cfg.In, cfg.Out = in, out
	p := &peer{t: t, in: childIn, buf: bufio.NewReaderSize(childIn, 16), out: childOut}
	t.Cleanup(func() { childIn.Close(); childOut.Close() })
	return run(t, cfg), p
}

// gets reads the next line, which must be want.
func (p *peer) gets(want string) {
	p.t.Helper()
	got, err := p.buf.ReadString('\n')
	if err != nil {
		p.t.Fatalf("read: %v, want %s", err, want)
	}
	if got = strings.TrimSuffix(got, "\n"); got != want {
		p.t.Fatalf("the server got %s\nwant           %s", got, want)
	}
}

func (p *peer) says(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.out, line+"\n"); err != nil {
		p.t.Fatalf("write: %v", err)
	}
	synctest.Wait()
}

// record is a call that notes what happens to it.
type record struct {
	mu       sync.Mutex
	replies  []stdio.Reply
	released int
	progress int
}

func (r *record) call(method, params string) *stdio.Call {
	return &stdio.Call{
		Method: method, Params: []byte(params),
		OnProgress: func() { r.mu.Lock(); r.progress++; r.mu.Unlock() },
		Done:       func(reply stdio.Reply) { r.mu.Lock(); r.replies = append(r.replies, reply); r.mu.Unlock() },
		Released: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.replies) == 0 {
				r.released = -1000 // released before it was done
			}
			r.released++
		},
	}
}

func (r *record) wants(t *testing.T, err error, delivered bool, released int) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replies) != 1 {
		t.Fatalf("%d replies, want 1", len(r.replies))
	}
	got := r.replies[0]
	if !errors.Is(got.Err, err) || got.Delivered != delivered {
		t.Errorf("error %v, delivered %v; want %v, %v", got.Err, got.Delivered, err, delivered)
	}
	if r.released != released {
		t.Errorf("released %d times, want %d", r.released, released)
	}
}

func (r *record) waits(t *testing.T) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replies) != 0 || r.released != 0 {
		t.Errorf("replies %v, released %d; want a call under way", r.replies, r.released)
	}
}

func start(t *testing.T, c *conversation, call *stdio.Call) *stdio.Pending {
	t.Helper()
	p, err := c.Start(call)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	synctest.Wait()
	return p
}
