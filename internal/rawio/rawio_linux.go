package rawio

import (
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn returns c with raw system calls if it is a TCP connection, or else c itself.
func Conn(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, ok := nonBlocking(tcp, 0)
	if !ok {
		return c
	}
	return &TCPConn{tcp, raw}
}

// TCPConn is a TCP connection with raw system calls.
type TCPConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// Read implements net.Conn.
func (c *TCPConn) Read(p []byte) (int, error) {
	if len(p) == 0 || len(p) > most {
		return c.TCPConn.Read(p)
	}
	n, errno, err := read(c.raw, p)
	if err != nil {
		return c.TCPConn.Read(p) // which has the error in the form of package net
	}
	return c.outcome(n, errno)
}

// ReadLate is like Read, but has no buffer while it waits. It calls get for one, and put if it has
// read nothing into it.
func (c *TCPConn) ReadLate(get func() []byte, put func()) (int, error) {
	var n int
	var errno syscall.Errno
	err := c.raw.Read(func(fd uintptr) bool {
		if n, errno = call(unix.SYS_READ, fd, get()); n == 0 {
			put()
		}
		return errno != unix.EAGAIN
	})
	if err != nil {
		if n, err = c.TCPConn.Read(get()); n == 0 {
			put()
		}
		return n, err
	}
	return c.outcome(n, errno)
}

func (c *TCPConn) outcome(n int, errno syscall.Errno) (int, error) {
	switch {
	case errno != 0:
		return 0, c.failure("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *TCPConn) Write(p []byte) (int, error) {
	if len(p) == 0 || len(p) > most {
		return c.TCPConn.Write(p)
	}
	n, errno, err := write(c.raw, p)
	switch {
	case err != nil:
		more, err := c.TCPConn.Write(p[n:])
		return n + more, err
	case errno != 0:
		return n, c.failure("write", errno)
	}
	return n, nil
}

func (c *TCPConn) failure(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// Reader returns r with raw system calls if it is a pipe, or else r itself.
func Reader(r io.ReadCloser) io.ReadCloser {
	if p, ok := pipe(r); ok {
		return p
	}
	return r
}

// Writer returns w with raw system calls, as a TryWriter, if it is a pipe, or else w itself.
func Writer(w io.WriteCloser) io.WriteCloser {
	if p, ok := pipe(w); ok {
		return p
	}
	return w
}

func pipe(end any) (*Pipe, bool) {
	f, ok := end.(*os.File)
	if !ok {
		return nil, false
	}
	raw, ok := nonBlocking(f, unix.S_IFIFO)
	return &Pipe{f, raw}, ok
}

// Pipe is one end of a pipe, with raw system calls.
type Pipe struct {
	*os.File
	raw syscall.RawConn
}

// Read implements io.Reader.
func (f *Pipe) Read(p []byte) (int, error) {
	if len(p) == 0 || len(p) > most {
		return f.File.Read(p)
	}
	n, errno, err := read(f.raw, p)
	switch {
	case err != nil:
		return f.File.Read(p) // which has the error in the form of package os
	case errno != 0:
		return 0, f.failure("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements io.Writer.
func (f *Pipe) Write(p []byte) (int, error) {
	if len(p) == 0 || len(p) > most {
		return f.File.Write(p)
	}
	n, errno, err := write(f.raw, p)
	switch {
	case err != nil:
		more, err := f.File.Write(p[n:])
		return n + more, err
	case errno != 0:
		return n, f.failure("write", errno)
	}
	return n, nil
}

// TryWrite implements TryWriter.
func (f *Pipe) TryWrite(p []byte) (written bool) {
	n, errno, err := tryWrite(f.raw, p)
	return err == nil && errno == 0 && n == len(p)
}

// Unread returns how many bytes in the pipe nobody has read, also once the other end is closed. It
// reports false if that is not known.
func (f *Pipe) Unread() (n int, ok bool) {
	var err error
	closed := f.raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // FIONREAD
	return n, closed == nil && err == nil
}

func (f *Pipe) failure(op string, errno syscall.Errno) error {
	return &fs.PathError{Op: op, Path: f.Name(), Err: errno}
}

// nonBlocking returns the raw form of a file if it is non-blocking and of the given kind (0: any).
func nonBlocking(file syscall.Conn, kind uint32) (raw syscall.RawConn, ok bool) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, false
	}
	err = raw.Control(func(fd uintptr) {
		var stat unix.Stat_t
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		ok = err == nil && flags&unix.O_NONBLOCK != 0 && unix.Fstat(int(fd), &stat) == nil &&
			(kind == 0 || stat.Mode&unix.S_IFMT == kind)
	})
	return raw, err == nil && ok
}

// operation reads or writes p. It is reused, because the functions that a syscall.RawConn calls would be
// allocated otherwise, with all that they refer to.
type operation struct {
	p     []byte
	done  int
	errno syscall.Errno

	read, write, tryWrite func(fd uintptr) (ready bool)
}

var operations = sync.Pool{New: func() any {
	o := new(operation)
	o.read = func(fd uintptr) bool {
		o.done, o.errno = call(unix.SYS_READ, fd, o.p)
		return o.errno != unix.EAGAIN
	}
	o.tryWrite = func(fd uintptr) bool {
		o.done, o.errno = call(unix.SYS_WRITE, fd, o.p)
		return true
	}
	o.write = func(fd uintptr) bool {
		for o.done < len(o.p) && o.errno == 0 {
			var n int
			n, o.errno = call(unix.SYS_WRITE, fd, o.p[o.done:])
			o.done += n
		}
		if o.errno == unix.EAGAIN {
			o.errno = 0
			return false
		}
		return true
	}
	return o
}}

// run has an operation run. err is of the wait: the file was closed, or a deadline has passed.
func run(p []byte, do func(*operation) error) (n int, errno syscall.Errno, err error) {
	o := operations.Get().(*operation)
	o.p, o.done, o.errno = p, 0, 0
	err = do(o)
	n, errno, o.p = o.done, o.errno, nil
	operations.Put(o)
	return n, errno, err
}

// read waits until a read does not return EAGAIN, and returns what it returned.
func read(raw syscall.RawConn, p []byte) (n int, errno syscall.Errno, err error) {
	return run(p, func(o *operation) error { return raw.Read(o.read) })
}

// write waits until it has written all of p.
func write(raw syscall.RawConn, p []byte) (n int, errno syscall.Errno, err error) {
	return run(p, func(o *operation) error { return raw.Write(o.write) })
}

// tryWrite writes once, and waits for nothing.
func tryWrite(raw syscall.RawConn, p []byte) (n int, errno syscall.Errno, err error) {
	return run(p, func(o *operation) error { return raw.Write(o.tryWrite) })
}

// order makes the race detector see every read after the writes before it. Package syscall has the same.
var order atomic.Int64

// call reads into p or writes it, without package runtime knowing. p is not empty.
func call(number, fd uintptr, p []byte) (int, syscall.Errno) {
	if raceDetector {
		order.Add(1)
		defer order.Add(1)
	}
	for {
		n, _, errno := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
