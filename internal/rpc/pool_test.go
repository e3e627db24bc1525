package rpc

import "testing"

func TestBufferPool(t *testing.T) {
	var p bufferPool
	for _, length := range []int{0, 1, 1 << leastBuffer, 1<<leastBuffer + 1, 1<<14 + 5, 1 << mostBuffer, 1<<mostBuffer + 1, 1 << 20} {
		b := p.Get(length)
		if len(*b) != length {
			t.Errorf("Get(%d) has %d bytes", length, len(*b))
		}
		*b = (*b)[:length/2] // gRPC may give back less than it got
		p.Put(b)
		for range 3 {
			if again := p.Get(length); len(*again) != length {
				t.Errorf("a second Get(%d) has %d bytes", length, len(*again))
			}
		}
	}
	odd := make([]byte, 3000)
	p.Put(&odd)
	if b := p.Get(4096); len(*b) != 4096 {
		t.Errorf("Get(4096) has %d bytes", len(*b))
	}
}
