package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is the other end of a writer. It can stop reading.
type reader struct {
	mu   sync.Mutex
	got  strings.Builder
	stop chan struct{} // writes wait until it is closed; nil: they do not wait
	fail error
	part int // bytes that a failing write accepts
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	stop := r.stop
	r.mu.Unlock()
	if stop != nil {
		<-stop
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		n := min(r.part, len(p))
		r.got.Write(p[:n])
		return n, r.fail
	}
	return r.got.Write(p)
}

func (r *reader) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *reader) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

func TestNothingIsLostInNormalOperation(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	s := New(Config{Out: write})
	var want strings.Builder
	for i := range 20_000 {
		line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", i%200))
		want.WriteString(line)
		if n, err := io.WriteString(s, line); n != len(line) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	go func() {
		s.Close(time.Minute)
		write.Close()
	}()
	got, err := io.ReadAll(read)
	if err != nil || string(got) != want.String() {
		t.Errorf("read %d bytes, %v, want %d", len(got), err, want.Len())
	}
}

func TestReaderThatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{stop: make(chan struct{})}
		s := New(Config{Out: r, Buffer: 100})
		s.ReportDropped(func(n int) []byte { return fmt.Appendf(nil, "lost=%d\n", n) })
		for i := range 50 {
			fmt.Fprintf(s, "line %04d\n", i) // 10 bytes
		}
		synctest.Wait()
		close(r.stop)
		synctest.Wait()
		var want strings.Builder
		for i := range 10 {
			fmt.Fprintf(&want, "line %04d\n", i)
		}
		want.WriteString("lost=40\n") // without a further Write
		if got := r.text(); got != want.String() {
			t.Errorf("got:\n%swant:\n%s", got, want.String())
		}
		fmt.Fprintln(s, "back")
		s.Close(time.Second)
		want.WriteString("back\n")
		if got := r.text(); got != want.String() {
			t.Errorf("afterwards got:\n%swant:\n%s", got, want.String())
		}
		fmt.Fprintln(s, "after the end")
		s.Close(time.Second)
		if got := r.text(); got != want.String() {
			t.Errorf("after Close got:\n%s", got)
		}
		if n := s.Dropped(); n != 41 {
			t.Errorf("%d lines dropped, want 41", n)
		}
	})
}

// A line that is larger than the buffer is written if the buffer is empty.
func TestLongLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		s := New(Config{Out: r, Buffer: 10})
		long := strings.Repeat("x", 3*atomicWrite) + "\n"
		fmt.Fprint(s, long)
		s.Close(time.Second)
		if got := r.text(); got != long {
			t.Errorf("got %d bytes, want %d", len(got), len(long))
		}
	})
}

// On a full disk, lines that could not be written are counted, and the next line
// begins on a line of its own.
func TestWritesThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		s := New(Config{Out: r})
		fmt.Fprintln(s, "one")
		synctest.Wait()
		r.set(func() { r.fail, r.part = errors.New("no space left on device"), 3 })
		fmt.Fprintln(s, "second")
		synctest.Wait()
		r.set(func() { r.part = 0 })
		fmt.Fprintln(s, "third")
		fmt.Fprintln(s, "fourth") // follows a report that is lost too
		synctest.Wait()
		r.set(func() { r.fail = nil })
		fmt.Fprintln(s, "fifth")
		s.Close(time.Second)
		want := "one\nsec\n3 log lines dropped\nfifth\n"
		if got := r.text(); got != want {
			t.Errorf("got:\n%swant:\n%s", got, want)
		}
		if n := s.Dropped(); n != 3 {
			t.Errorf("%d lines dropped, want 3", n)
		}
	})
}

func TestCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{stop: make(chan struct{})}
		s := New(Config{Out: r})
		fmt.Fprintln(s, "never read")
		began := time.Now()
		s.Close(2 * time.Second)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("Close took %s", took)
		}
		close(r.stop) // lets the writer end with the test
	})
}
