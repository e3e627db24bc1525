package stdio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// widen makes a pipe hold wideBytes, so that a large line takes fewer turns between the server and
// us. It changes nothing that is no pipe, and no pipe of a user who may not have more.
func widen(pipe any) {
	file, ok := pipe.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, wideBytes) })
}
