package stdio_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// pipePeer is the server's end of a conversation over pipes of package os. Its stdin holds one page.
type pipePeer struct {
	t   testing.TB
	in  *os.File
	buf *bufio.Reader
	out *os.File
}

func withPipes(t testing.TB) (*conversation, *pipePeer) {
	t.Helper()
	childIn, in := pipe(t)
	out, childOut := pipe(t)
	shrink(t, in)
	t.Cleanup(func() { childIn.Close(); childOut.Close() })
	c := run(t, stdio.Config{In: in, Out: out, Log: discard()})
	if !c.Direct() {
		t.Fatal("short lines are not written by their callers")
	}
	p := &pipePeer{t: t, in: childIn, buf: bufio.NewReader(childIn), out: childOut}
	first := begin(t, c, "first", "") // Run runs once this is written
	p.answer(p.line())
	first.ends(nil, true)
	until(t, "the writer is done", func() bool { return c.Stats().Waiting == 0 })
	return c, p
}

// shrink makes a pipe hold one page.
func shrink(t testing.TB, f *os.File) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var shrunk error
	if err := raw.Control(func(fd uintptr) { _, shrunk = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096) }); err != nil || shrunk != nil {
		t.Fatal(err, shrunk)
	}
}

// line returns the next line as a message, with a method of "" at the end.
func (p *pipePeer) line() message {
	p.t.Helper()
	raw, err := p.buf.ReadBytes('\n')
	if err != nil {
		if !errors.Is(err, io.EOF) || len(raw) > 0 {
			p.t.Errorf("the server read %q, %v", raw, err)
		}
		return message{}
	}
	env, err := mcp.Scan(raw)
	if err != nil {
		p.t.Errorf("the server got %q: %v", raw, err)
	}
	return message{string(env.ID), string(env.Method), env.Params}
}

func (p *pipePeer) answer(m message) {
	if m.id != "" {
		_, _ = fmt.Fprintf(p.out, `{"jsonrpc":"2.0","id":%s,"result":{}}`+"\n", m.id)
	}
}

// tracked is a call under test.
type tracked struct {
	*stdio.Pending
	t        testing.TB
	name     string
	replies  chan stdio.Reply // has room for one too many
	released atomic.Int32
}

func track(t testing.TB, c *conversation, method, params string) (*tracked, error) {
	k := &tracked{t: t, name: method + " " + params, replies: make(chan stdio.Reply, 2)}
	var err error
	k.Pending, err = c.Start(&stdio.Call{
		Method: method, Params: []byte(params),
		Done: func(r stdio.Reply) {
			if k.released.Load() != 0 {
				t.Errorf("%s was released before it was done", k.name)
			}
			k.replies <- r
		},
		Released: func() { k.released.Add(1) },
	})
	return k, err
}

func begin(t testing.TB, c *conversation, method, params string) *tracked {
	t.Helper()
	k, err := track(t, c, method, params)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return k
}

func (k *tracked) ends(want error, delivered bool) {
	k.t.Helper()
	if r := <-k.replies; !errors.Is(r.Err, want) || r.Delivered != delivered {
		k.t.Errorf("%s: error %v, delivered %v; want %v, %v", k.name, r.Err, r.Delivered, want, delivered)
	}
}

// over checks, once nothing more can happen, that there was no second end.
func (k *tracked) over() {
	k.t.Helper()
	if n, released := len(k.replies), k.released.Load(); n != 0 || released != 1 {
		k.t.Errorf("%s: %d replies too many, released %d times", k.name, n, released)
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func idle(t testing.TB, c *conversation) {
	t.Helper()
	if s := c.Stats(); s.Waiting != 0 || s.Outstanding != 0 {
		t.Errorf("%d bytes wait, and %d calls are outstanding", s.Waiting, s.Outstanding)
	}
}

// padding makes calls so long that a page holds about ten.
var padding = strings.Repeat("x", 300)

// stuff starts calls until stdin refuses one, and then starts as many more as queued says.
func stuff(t testing.TB, c *conversation, queued int) (written []*tracked, refused *tracked, more []*tracked) {
	t.Helper()
	for n := 0; ; n++ {
		k := begin(t, c, fmt.Sprint("written ", n), `["`+padding+`"]`)
		if c.Stats().Waiting > 0 {
			refused = k
			break
		}
		written = append(written, k)
	}
	for n := range queued {
		more = append(more, begin(t, c, fmt.Sprint("queued ", n), `["`+padding+`"]`))
	}
	if len(written) < 5 {
		t.Errorf("stdin took only %d calls", len(written))
	}
	return written, refused, more
}

func TestShortLineIsWrittenByItsCaller(t *testing.T) {
	c, server := withPipes(t)
	for n := range 500 {
		k := begin(t, c, fmt.Sprint("call ", n), "")
		if w := c.Stats().Waiting; w != 0 {
			t.Fatalf("%d bytes wait for another goroutine", w)
		}
		m := server.line()
		if want := fmt.Sprint("call ", n); m.method != want || m.id != fmt.Sprint(k.ID()) {
			t.Fatalf("the server got %+v, want %s with id %d", m, want, k.ID())
		}
		server.answer(m)
		k.ends(nil, true)
	}
	idle(t, c)
}

// Lines of one caller keep their order, be they written by it, refused or queued.
func TestFullPipeKeepsTheOrder(t *testing.T) {
	t.Run("the server reads late", func(t *testing.T) { keepsTheOrder(t, true) })
	t.Run("the server reads meanwhile", func(t *testing.T) { keepsTheOrder(t, false) })
}

func keepsTheOrder(t *testing.T, late bool) {
	c, server := withPipes(t)
	const callers, each = 8, 100
	calls := make([][]*tracked, callers)
	var starting sync.WaitGroup
	for caller := range callers {
		starting.Go(func() {
			for n := range each {
				size := 0
				if n%10 == 9 {
					size = 5000 // more than a caller may write
				}
				k, err := track(t, c, fmt.Sprint("caller ", caller), fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", size)))
				if err != nil {
					t.Errorf("Start: %v", err)
					return
				}
				calls[caller] = append(calls[caller], k)
			}
		})
	}
	if late {
		starting.Wait()
	}
	next := make(map[string]int)
	for range callers * each {
		m := server.line()
		if want := fmt.Sprintf(`{"n":%d,`, next[m.method]); !strings.HasPrefix(string(m.params), want) {
			t.Fatalf("the server got %.40s of %s, want %s", m.params, m.method, want)
		}
		next[m.method]++
		server.answer(m)
	}
	starting.Wait()
	for _, list := range calls {
		for _, k := range list {
			k.ends(nil, true)
		}
	}
	until(t, "the last write is settled", func() bool { return c.Stats().Waiting == 0 })
	idle(t, c)
	if n := len(next); n != callers {
		t.Errorf("%d callers were heard, want %d", n, callers)
	}
	if err := c.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if m := server.line(); m.method != "" {
		t.Errorf("the server got %+v behind the last call", m)
	}
	for _, list := range calls {
		for _, k := range list {
			k.over()
		}
	}
}

func TestManyCallersAreAnsweredOnce(t *testing.T) {
	c := overPipes(t, stdio.Config{})
	const callers, each = 16, 100
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			for n := range each {
				params := fmt.Sprintf(`{"caller":%d,"n":%d}`, caller, n)
				if r := c.Request(t.Context(), "echo", []byte(params)); r.Err != nil || string(r.Result) != params {
					t.Errorf("the reply is %s, %v; want %s", r.Result, r.Err, params)
				}
			}
		})
	}
	calling.Wait()
	if r, want := ask(t, c, "lines", ""), fmt.Sprint(callers*each+1); string(r.Result) != want {
		t.Errorf("the server got %s lines, want %s", r.Result, want)
	}
	until(t, "the last write is settled", func() bool { return c.Stats().Waiting == 0 })
	idle(t, c)
}

// The writer may have begun to write the refused line, so it counts as delivered.
func TestCancelWhilePipeIsFull(t *testing.T) {
	c, server := withPipes(t)
	written, refused, queued := stuff(t, c, 2)
	if !c.Cancel(queued[0].Pending, "") || !c.Cancel(refused.Pending, "") {
		t.Error("Cancel found a call ended")
	}
	queued[0].ends(stdio.ErrCancelled, false)
	queued[0].over()
	refused.ends(stdio.ErrCancelled, true)
	if n := refused.released.Load(); n != 0 {
		t.Errorf("the refused call was released %d times before the server was free", n)
	}
	var want []string
	for _, k := range append(written, refused, queued[1]) {
		want = append(want, strings.TrimSpace(strings.SplitN(k.name, "[", 2)[0]))
	}
	want = append(want, mcp.MethodCancelled, mcp.MethodPing)
	for _, method := range want {
		m := server.line()
		if m.method != method {
			t.Errorf("the server got %q, want %q", m.method, method)
		}
		if m.id != fmt.Sprint(refused.ID()) {
			server.answer(m)
		}
	}
	for _, k := range append(written, queued[1]) {
		k.ends(nil, true)
		k.over()
	}
	until(t, "the refused call is released", func() bool { return refused.released.Load() > 0 && c.Stats().Waiting == 0 })
	refused.over()
	idle(t, c)
}

func TestInputEndsWhilePipeIsFull(t *testing.T) {
	for name, end := range map[string]func(*conversation, *pipePeer){
		"CloseInput":              func(c *conversation, _ *pipePeer) { c.CloseInput() },
		"the server closes stdin": func(_ *conversation, server *pipePeer) { server.in.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c, server := withPipes(t)
			written, refused, queued := stuff(t, c, 3)
			end(c, server)
			for _, k := range append(queued, refused) {
				k.ends(stdio.ErrNotDelivered, false)
			}
			if _, err := track(t, c, "late", ""); !errors.Is(err, stdio.ErrClosed) {
				t.Errorf("Start = %v, want ErrClosed", err)
			}
			for _, k := range written[1:] {
				server.answer(message{id: fmt.Sprint(k.ID())})
				k.ends(nil, true)
			}
			server.out.Close()
			<-c.done
			written[0].ends(stdio.ErrLost, true)
			for _, k := range append(append(written, refused), queued...) {
				k.over()
			}
			idle(t, c)
		})
	}
}

// Nobody reads stdin any more when a call is to be written to it.
func TestShortLineForAServerWithoutStdin(t *testing.T) {
	c, server := withPipes(t)
	server.in.Close()
	k := begin(t, c, "a", "")
	k.ends(stdio.ErrNotDelivered, false)
	until(t, "stdin is closed", func() bool { _, err := track(t, c, "b", ""); return errors.Is(err, stdio.ErrClosed) })
	server.out.Close()
	<-c.done
	k.over()
	idle(t, c)
}

// Whenever the conversation ends, each call ends once, and is not lost or undelivered against the truth.
func TestEndDuringDirectWrites(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	ends := []struct {
		name string
		end  func(*conversation, *pipePeer)
	}{
		{"stdout closes", func(_ *conversation, server *pipePeer) { server.out.Close() }},
		{"stdin closes", func(_ *conversation, server *pipePeer) { server.in.Close(); server.out.Close() }},
		{"context ends", func(c *conversation, _ *pipePeer) { c.end() }},
		{"CloseInput", func(c *conversation, server *pipePeer) { c.CloseInput(); server.out.Close() }},
	}
	for _, tc := range ends {
		t.Run(tc.name, func(t *testing.T) {
			for range rounds / len(ends) {
				endDuringDirectWrites(t, tc.end)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func endDuringDirectWrites(t *testing.T, end func(*conversation, *pipePeer)) {
	c, server := withPipes(t)
	lines, slow := rand.IntN(100), rand.IntN(2) == 0
	got := make(map[string]bool) // ids
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			if n == lines {
				end(c, server)
			}
			m, end := server.buf.ReadBytes('\n')
			env, err := mcp.Scan(m)
			if end == nil && err != nil {
				t.Errorf("the server got %q: %v", m, err)
			}
			if id := string(env.ID); id != "" {
				if got[id] {
					t.Errorf("the server got id %s twice", id)
				}
				got[id] = true
			}
			if end != nil {
				return
			}
			if n < lines && !slow {
				server.answer(message{id: string(env.ID)})
			}
		}
	})
	const callers, each = 4, 200 // bounded: on one processor nobody else may run for long
	calls := make([][]*tracked, callers)
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			for n := range each {
				k, err := track(t, c, "call", fmt.Sprintf(`{"caller":%d,"n":%d}`, caller, n))
				if err != nil {
					if !errors.Is(err, stdio.ErrClosed) {
						t.Errorf("Start: %v", err)
					}
					return
				}
				calls[caller] = append(calls[caller], k)
				if n%7 == 6 {
					c.Cancel(k.Pending, "")
				}
			}
		})
	}
	<-c.done
	calling.Wait()
	serving.Wait()
	for _, list := range calls {
		for _, k := range list {
			r := <-k.replies // would block if there were none: Run has returned
			read := got[fmt.Sprint(k.ID())]
			if read && !r.Delivered {
				t.Errorf("%s: the server got the line, and the call ended undelivered with %v", k.name, r.Err)
			}
			if !read && errors.Is(r.Err, stdio.ErrLost) && !unread(server) {
				t.Errorf("%s: the server did not get the line, and the call ended with %v", k.name, r.Err)
			}
			k.over()
		}
	}
	idle(t, c)
}

// unread reports whether the server has closed its stdin, and so may have left lines unread.
func unread(server *pipePeer) bool {
	_, err := server.in.Stat()
	return err != nil
}
