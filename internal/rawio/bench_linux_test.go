package rawio_test

import (
	"net"
	"os"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/rawio"
)

// What a read and a write cost, besides their system calls.
func BenchmarkIO(b *testing.B) {
	run := func(b *testing.B, r, w end) {
		line := make([]byte, 1024)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Write(line); err != nil {
				b.Fatal(err)
			}
			if n, err := r.Read(line); err != nil || n != len(line) {
				b.Fatal(n, err)
			}
		}
	}
	b.Run("pipe", func(b *testing.B) {
		r, w, err := os.Pipe()
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		run(b, rawio.Reader(r).(end), rawio.Writer(w).(end))
	})
	b.Run("TCP", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		w, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		r, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		run(b, rawio.Conn(r).(end), rawio.Conn(w).(end))
	})
}
