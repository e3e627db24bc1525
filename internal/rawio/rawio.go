// Package rawio reads and writes sockets and pipes with system calls that Go's scheduler does not
// see.
//
// Before each ordinary system call Go gets ready to run other goroutines on another thread, in case
// the call blocks. In a process that is idle between two calls this wakes a thread each time, and
// that thread then looks for something to do every 20 microseconds. It costs more than the system
// call itself. These sockets and pipes are non-blocking, so their system calls cannot block, and the
// scheduler need not know. Goroutines still wait in Go's poller, and deadlines and Close work as
// usual.
//
// Pieces of more than 64 KiB go the ordinary way: copying them takes long enough for the scheduler to
// matter. So does everything outside Linux, and everything that is neither a TCP connection nor a
// pipe of package os.
//
// All methods may be called at any time from anywhere, like those of net.Conn and os.File.
package rawio

import "io"

// most is the size of the largest piece that is read or written by a raw system call.
const most = 64 << 10

// TryWriter is a pipe that can be written without waiting.
type TryWriter interface {
	io.WriteCloser
	// TryWrite writes all of b, or nothing if that would block or fail. It reports whether it wrote. b
	// has at most MaxTry bytes. Like any write it waits for one that is in progress.
	TryWrite(b []byte) bool
}

// MaxTry is how much a pipe takes in one piece, or not at all (PIPE_BUF).
const MaxTry = 4096
