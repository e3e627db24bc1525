package rawio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// end is what a TCP connection and an end of a pipe have in common.
type end interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// outcome describes the error of a Read or Write by everything that callers look at.
type outcome struct {
	eof, closed, late, timeout bool
	errno                      syscall.Errno
	kind, op                   string // of the error that package net or os returns
}

func (o outcome) String() string { return fmt.Sprintf("%+v", struct{ outcome }{o}) }

func outcomeOf(err error) outcome {
	//nolint:errorlint // callers of Read compare with io.EOF itself
	o := outcome{eof: err == io.EOF, closed: errors.Is(err, fs.ErrClosed) || errors.Is(err, net.ErrClosed), late: errors.Is(err, os.ErrDeadlineExceeded)}
	var timeout interface{ Timeout() bool }
	o.timeout = errors.As(err, &timeout) && timeout.Timeout()
	errors.As(err, &o.errno)
	if err != nil {
		o.kind = fmt.Sprintf("%T", err)
	}
	switch e := err.(type) { //nolint:errorlint // net/http looks at the error itself, too
	case *net.OpError:
		o.op = e.Op + " " + e.Net + " " + fmt.Sprintf("%T", e.Err)
		if e.Source == nil || e.Addr == nil {
			o.op += " without addresses"
		}
	case *fs.PathError:
		o.op = e.Op + " " + e.Path
	}
	return o
}

var past = time.Unix(1, 0)

// property is a situation in which both forms must give the same result.
type property struct {
	name string
	do   func(t *testing.T, c, peer end) (int, error)
	want func(error) bool
}

func isEOF(err error) bool    { return err == io.EOF } //nolint:errorlint // as above
func isClosed(err error) bool { return errors.Is(err, os.ErrClosed) || errors.Is(err, net.ErrClosed) }
func isReset(err error) bool  { return errors.Is(err, syscall.ECONNRESET) }
func isBroken(err error) bool { return errors.Is(err, syscall.EPIPE) }
func isNil(err error) bool    { return err == nil }
func isLate(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &timeout) && timeout.Timeout()
}

func read(c end) (int, error)  { return c.Read(make([]byte, 100)) }
func write(c end) (int, error) { return c.Write([]byte("hello")) }

// fill writes until a Write ends with an error, and returns only that.
func fill(c end) (int, error) {
	for {
		if _, err := c.Write(make([]byte, 32<<10)); err != nil {
			return 0, err
		}
	}
}

// reading are the properties of the end c that is read.
var reading = []property{
	{"read", func(t *testing.T, c, peer end) (int, error) { must(t, peer, write); return read(c) }, isNil},
	{"read nothing", func(t *testing.T, c, _ end) (int, error) { return c.Read(nil) }, isNil},
	{"read after the peer's close", func(_ *testing.T, c, peer end) (int, error) { peer.Close(); return read(c) }, isEOF},
	{"the peer closes while a read waits", func(t *testing.T, c, peer end) (int, error) {
		return parked(t, func() (int, error) { return read(c) }, func() { peer.Close() })
	}, isEOF},
	{"the peer writes while a read waits", func(t *testing.T, c, peer end) (int, error) {
		return parked(t, func() (int, error) { return read(c) }, func() { must(t, peer, write) })
	}, isNil},
	{"read after close", func(_ *testing.T, c, _ end) (int, error) { c.Close(); return read(c) }, isClosed},
	{"close while a read waits", func(t *testing.T, c, _ end) (int, error) {
		return parked(t, func() (int, error) { return read(c) }, func() { c.Close() })
	}, isClosed},
	{"read after its deadline", func(t *testing.T, c, peer end) (int, error) {
		must(t, peer, write)
		c.SetReadDeadline(past)
		return read(c)
	}, isLate},
	{"the deadline passes while a read waits", func(_ *testing.T, c, _ end) (int, error) {
		c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		return read(c)
	}, isLate},
	{"a deadline is set while a read waits", func(t *testing.T, c, _ end) (int, error) {
		return parked(t, func() (int, error) { return read(c) }, func() { c.SetReadDeadline(past) })
	}, isLate},
	{"read after its deadline was reset", func(t *testing.T, c, peer end) (int, error) {
		c.SetDeadline(past)
		if _, err := read(c); !isLate(err) {
			t.Errorf("read = %v, want a timeout", err)
		}
		c.SetDeadline(time.Time{})
		must(t, peer, write)
		return read(c)
	}, isNil},
}

// writing are the properties of the end c that is written.
var writing = []property{
	{"write", func(_ *testing.T, c, _ end) (int, error) { return write(c) }, isNil},
	{"write nothing", func(_ *testing.T, c, _ end) (int, error) { return c.Write(nil) }, isNil},
	{"write after close", func(_ *testing.T, c, _ end) (int, error) { c.Close(); return write(c) }, isClosed},
	{"close while a write waits", func(t *testing.T, c, _ end) (int, error) {
		return parked(t, func() (int, error) { return fill(c) }, func() { c.Close() })
	}, isClosed},
	{"write after its deadline", func(_ *testing.T, c, _ end) (int, error) { c.SetWriteDeadline(past); return write(c) }, isLate},
	{"the deadline passes while a write waits", func(_ *testing.T, c, _ end) (int, error) {
		c.SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		return fill(c)
	}, isLate},
	{"a deadline is set while a write waits", func(t *testing.T, c, _ end) (int, error) {
		return parked(t, func() (int, error) { return fill(c) }, func() { c.SetWriteDeadline(past) })
	}, isLate},
	{"write after its deadline was reset", func(t *testing.T, c, _ end) (int, error) {
		c.SetDeadline(past)
		if _, err := write(c); !isLate(err) {
			t.Errorf("write = %v, want a timeout", err)
		}
		c.SetDeadline(time.Time{})
		return write(c)
	}, isNil},
}

// resetting are the properties of a connection whose peer resets it.
var resetting = []property{
	{"read after a reset", func(_ *testing.T, c, peer end) (int, error) { reset(peer); return read(c) }, isReset},
	{"second read after a reset", func(_ *testing.T, c, peer end) (int, error) { reset(peer); read(c); return read(c) }, isEOF},
	{"reset while a read waits", func(t *testing.T, c, peer end) (int, error) {
		return parked(t, func() (int, error) { return read(c) }, func() { reset(peer) })
	}, isReset},
	{"write after a reset", func(_ *testing.T, c, peer end) (int, error) { reset(peer); return write(c) }, isReset},
	{"second write after a reset", func(_ *testing.T, c, peer end) (int, error) { reset(peer); write(c); return write(c) }, isBroken},
	{"reset while a write waits", func(t *testing.T, c, peer end) (int, error) {
		return parked(t, func() (int, error) { return fill(c) }, func() { reset(peer) })
	}, isReset},
	{"write after CloseWrite", func(_ *testing.T, c, _ end) (int, error) {
		c.(interface{ CloseWrite() error }).CloseWrite()
		return write(c)
	}, isBroken},
}

// breaking are the properties of a pipe whose reader goes away.
var breaking = []property{
	{"write without a reader", func(_ *testing.T, c, peer end) (int, error) { peer.Close(); return write(c) }, isBroken},
	{"the reader closes while a write waits", func(t *testing.T, c, peer end) (int, error) {
		return parked(t, func() (int, error) { return fill(c) }, func() { peer.Close() })
	}, isBroken},
}

func reset(peer end) {
	peer.(interface{ SetLinger(int) error }).SetLinger(0)
	peer.Close()
}

func must(t *testing.T, c end, do func(end) (int, error)) {
	t.Helper()
	if _, err := do(c); err != nil {
		t.Error(err)
	}
}

func TestLikePackageNet(t *testing.T) {
	for _, list := range [][]property{reading, writing, resetting} {
		for _, p := range list {
			compare(t, p, func(t *testing.T) (plain, peer end) { return tcp(t) }, func(c end) end { return wrapped(t, c.(net.Conn)) })
		}
	}
}

func TestLikePackageOS(t *testing.T) {
	for _, p := range reading {
		compare(t, p, func(t *testing.T) (plain, peer end) { r, w := pipe(t); return r, w },
			func(c end) end { return rawio.Reader(c).(*rawio.Pipe) })
	}
	for _, list := range [][]property{writing, breaking} {
		for _, p := range list {
			compare(t, p, func(t *testing.T) (plain, peer end) { r, w := pipe(t); return w, r },
				func(c end) end { return rawio.Writer(c).(*rawio.Pipe) })
		}
	}
}

// compare runs a property with the plain form and with the raw one.
func compare(t *testing.T, p property, pair func(*testing.T) (plain, peer end), raw func(end) end) {
	t.Run(p.name, func(t *testing.T) {
		c, peer := pair(t)
		wantN, plainErr := p.do(t, c, peer)
		c, peer = pair(t)
		n, err := p.do(t, raw(c), peer)
		if want, got := outcomeOf(plainErr), outcomeOf(err); n != wantN || got != want {
			t.Errorf("the raw form returns %d, %v (%v)\nwant %d, %v (%v)", n, err, got, wantN, plainErr, want)
		}
		if !p.want(err) {
			t.Errorf("the raw form returns %v", err)
		}
	})
}

// parked calls do in another goroutine, calls then once do waits in the poller, and returns do's result.
func parked(t *testing.T, do func() (int, error), then func()) (n int, err error) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n, err = doParked(do)
	}()
	waitParked(t, done)
	then()
	<-done
	return n, err
}

// doParked names the goroutine in the stack traces of waitParked.
//
//go:noinline
func doParked(do func() (int, error)) (int, error) { return do() }

// waitParked returns once the goroutine of doParked waits in the poller, or has ended.
func waitParked(t *testing.T, done <-chan struct{}) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for begun := time.Now(); ; runtime.Gosched() {
		select {
		case <-done:
			return
		default:
		}
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "[IO wait") && strings.Contains(g, "rawio_test.doParked(") {
				return
			}
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("the call neither waits nor ends:\n%s", buf[:runtime.Stack(buf, true)])
		}
	}
}

// tcp returns both ends of a connection with small send buffers. Small receive buffers make TCP slow.
func tcp(t testing.TB) (c, peer *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, peer = dialled.(*net.TCPConn), accepted.(*net.TCPConn)
	for _, end := range []*net.TCPConn{c, peer} {
		end.SetWriteBuffer(8 << 10)
		t.Cleanup(func() { end.Close() })
	}
	return c, peer
}

func wrapped(t testing.TB, c net.Conn) *rawio.TCPConn {
	t.Helper()
	raw, ok := rawio.Conn(c).(*rawio.TCPConn)
	if !ok {
		t.Fatalf("Conn returned a %T", rawio.Conn(c))
	}
	return raw
}

// pipe returns both ends of a pipe of one page.
func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var size error
	if err := raw.Control(func(fd uintptr) { _, size = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096) }); err != nil || size != nil {
		t.Fatal(err, size)
	}
	return r, w
}

// Both ends are raw, and the reader takes little at a time, once the writer waits.
func TestSizes(t *testing.T) {
	for _, size := range []int{1, 4096, 64 << 10, 64<<10 + 1, 1 << 20} {
		for name, pair := range map[string]func() (w io.WriteCloser, r io.Reader){
			"tcp":  func() (io.WriteCloser, io.Reader) { c, peer := tcp(t); return wrapped(t, c), wrapped(t, peer) },
			"pipe": func() (io.WriteCloser, io.Reader) { r, w := pipe(t); return rawio.Writer(w), rawio.Reader(r) },
		} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				w, r := pair()
				sent := make([]byte, size)
				_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(sent)
				var got bytes.Buffer
				n, err := parked(t, func() (int, error) { defer w.Close(); return w.Write(sent) }, func() {
					if _, err := io.CopyBuffer(&got, struct{ io.Reader }{onlyFew{r}}, nil); err != nil {
						t.Errorf("read: %v", err)
					}
				})
				if n != size || err != nil {
					t.Errorf("Write = %d, %v; want %d", n, err, size)
				}
				if !bytes.Equal(got.Bytes(), sent) {
					t.Errorf("%d bytes arrived, not the %d that were written", got.Len(), size)
				}
			})
		}
	}
}

// onlyFew reads little at a time.
type onlyFew struct{ io.Reader }

func (r onlyFew) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 3000)]) }

// A Write that a deadline or Close cuts off says how much it has written.
func TestCutOffWriteCountsWhatArrives(t *testing.T) {
	for name, cut := range map[string]func(end){
		"deadline": func(c end) { c.SetWriteDeadline(past) },
		"close":    func(c end) { c.Close() },
	} {
		for _, size := range []int{5000, 64 << 10, 1 << 20} {
			for kind, pair := range map[string]func() (c end, peer io.Reader){
				"tcp":  func() (end, io.Reader) { c, peer := tcp(t); return wrapped(t, c), peer },
				"pipe": func() (end, io.Reader) { r, w := pipe(t); return rawio.Writer(w).(*rawio.Pipe), r },
			} {
				t.Run(fmt.Sprintf("%s/%s/%d", kind, name, size), func(t *testing.T) {
					c, peer := pair()
					written, err := parked(t, func() (total int, err error) {
						for err == nil {
							var n int
							n, err = c.Write(make([]byte, size))
							total += n
						}
						return total, err
					}, func() { cut(c) })
					c.Close()
					if arrived, readErr := io.Copy(io.Discard, peer); readErr != nil || int(arrived) != written {
						t.Errorf("%d bytes arrived (%v), and Write reported %d (%v)", arrived, readErr, written, err)
					}
				})
			}
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	c, peer := tcp(t)
	a, b := wrapped(t, c), wrapped(t, peer)
	sums := make(chan int)
	for _, ends := range [][2]net.Conn{{a, b}, {b, a}} {
		for range 4 {
			go func() {
				for range 100 {
					if _, err := ends[0].Write(bytes.Repeat([]byte{1}, 1000)); err != nil {
						t.Error(err)
					}
				}
				sums <- 0
			}()
		}
		for range 2 {
			go func() {
				total := 0
				for buf := make([]byte, 1500); ; {
					n, err := ends[1].Read(buf)
					total += n
					if err != nil {
						sums <- total
						return
					}
				}
			}()
		}
	}
	for range 8 {
		<-sums // only writers end
	}
	if err := errors.Join(a.CloseWrite(), b.CloseWrite()); err != nil {
		t.Error(err)
	}
	total := 0
	for range 4 {
		total += <-sums
	}
	if total != 2*4*100*1000 {
		t.Errorf("%d bytes arrived, want %d", total, 2*4*100*1000)
	}
}

func TestOthersAreLeftAlone(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if got := rawio.Conn(a); got != a {
		t.Errorf("Conn of a net.Pipe is a %T", got)
	}
	pr, pw := io.Pipe()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	blockingR, blockingW := pipe(t)
	for _, f := range []*os.File{blockingR, blockingW} {
		if err := syscall.SetNonblock(int(f.Fd()), false); err != nil {
			t.Fatal(err)
		}
	}
	closedR, closedW := pipe(t)
	closedR.Close()
	closedW.Close()
	for name, r := range map[string]io.ReadCloser{"net.Pipe": a, "io.Pipe": pr, "file": file, "blocking pipe": blockingR, "closed pipe": closedR} {
		if got := rawio.Reader(r); got != r {
			t.Errorf("Reader of %s is a %T", name, got)
		}
	}
	for name, w := range map[string]io.WriteCloser{"net.Pipe": a, "io.Pipe": pw, "file": file, "blocking pipe": blockingW, "closed pipe": closedW} {
		if got := rawio.Writer(w); got != w {
			t.Errorf("Writer of %s is a %T", name, got)
		}
	}
	c, _ := tcp(t)
	c.Close()
	if got := rawio.Conn(c); got != net.Conn(c) {
		t.Errorf("Conn of a closed connection is a %T", got)
	}
}

func TestTryWriteWritesAllOrNothing(t *testing.T) {
	r, w := pipe(t)
	try := rawio.Writer(w).(rawio.TryWriter)
	piece := bytes.Repeat([]byte("x"), 3000)
	pieces := 0
	for try.TryWrite(piece) {
		pieces++
	}
	if pieces == 0 {
		t.Fatal("an empty pipe took nothing")
	}
	got := make([]byte, 1<<20)
	n, err := rawio.Reader(r).Read(got)
	if n != pieces*len(piece) || err != nil {
		t.Errorf("read %d, %v; want %d pieces of %d", n, err, pieces, len(piece))
	}
	largest := make([]byte, rawio.MaxTry)
	if !try.TryWrite(largest) {
		t.Error("an empty pipe did not take the largest piece")
	}
	for try.TryWrite(largest) {
	}
	if _, err := io.ReadFull(r, got[:1]); err != nil {
		t.Fatal(err)
	}
	if try.TryWrite(largest) {
		t.Error("a pipe without room took the largest piece")
	}

	broken, alone := pipe(t)
	broken.Close()
	if rawio.Writer(alone).(rawio.TryWriter).TryWrite(piece) {
		t.Error("TryWrite without a reader = true")
	}
	try.Close()
	if try.TryWrite(piece) {
		t.Error("TryWrite after Close = true")
	}
}

// ReadLate has no buffer while it waits, and keeps only one that it has read into.
func TestReadLate(t *testing.T) {
	cases := []struct {
		name string
		then func(t *testing.T, c, peer end)
		n    int
		want func(error) bool
	}{
		{"data", func(t *testing.T, _, peer end) { must(t, peer, write) }, 5, isNil},
		{"end", func(_ *testing.T, _, peer end) { peer.Close() }, 0, isEOF},
		{"reset", func(_ *testing.T, _, peer end) { reset(peer) }, 0, isReset},
		{"close", func(_ *testing.T, c, _ end) { c.Close() }, 0, isClosed},
		{"deadline", func(_ *testing.T, c, _ end) { c.SetReadDeadline(past) }, 0, isLate},
	}
	for _, tc := range cases {
		for _, wait := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/waiting=%v", tc.name, wait), func(t *testing.T) {
				c, peer := tcp(t)
				raw := wrapped(t, c)
				var held atomic.Int32
				var buf []byte
				late := func() (int, error) {
					return raw.ReadLate(func() []byte {
						if held.Add(1) > 1 {
							t.Error("ReadLate took a second buffer")
						}
						buf = make([]byte, 100)
						return buf
					}, func() { held.Add(-1) })
				}
				var n int
				var err error
				if wait {
					n, err = parked(t, late, func() {
						if n := held.Load(); n != 0 {
							t.Errorf("ReadLate has %d buffers while it waits", n)
						}
						tc.then(t, raw, peer)
					})
				} else {
					tc.then(t, raw, peer)
					n, err = late()
				}
				if n != tc.n || !tc.want(err) {
					t.Errorf("ReadLate = %d, %v", n, err)
				}
				if kept := int(held.Load()); kept != min(n, 1) {
					t.Errorf("ReadLate keeps %d buffers after %d bytes", kept, n)
				}
				if n > 0 && string(buf[:n]) != "hello" {
					t.Errorf("ReadLate read %q", buf[:n])
				}
			})
		}
	}
}
