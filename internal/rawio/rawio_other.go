//go:build !linux

package rawio

import (
	"io"
	"net"
)

// Conn returns c.
func Conn(c net.Conn) net.Conn { return c }

// Reader returns r.
func Reader(r io.ReadCloser) io.ReadCloser { return r }

// Writer returns w.
func Writer(w io.WriteCloser) io.WriteCloser { return w }
