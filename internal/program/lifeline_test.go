package program

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// A parent makes the pipe blocking again whenever it starts a child. The watch of
// another one ends all the same.
func TestLifelineMadeBlocking(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	fd, err := syscall.Dup(int(read.Fd())) // as a child has it
	if err != nil {
		t.Fatal(err)
	}
	w := watchLifeline(fd, func(error) {})
	if err := syscall.SetNonblock(int(read.Fd()), false); err != nil {
		t.Fatal(err)
	}
	for range 10 { // each read is followed by one more
		if _, err := write.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	closed := make(chan struct{})
	go func() { w.close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the watch does not end")
		write.Close() // ends it
		<-closed
	}
}
