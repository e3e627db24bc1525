package rpc

import (
	"math/bits"
	"sync"
)

// buffers pools the buffers into which gRPC reads frames and small messages are
// encoded. Unlike gRPC's own pool it does not clear a buffer before it is reused,
// because all of it is overwritten before it is read.
var buffers bufferPool

const (
	leastBuffer = 11 // a call of 1 KiB with its envelope fits 2 KiB
	mostBuffer  = 15 // gRPC's frames have 16 KiB; larger buffers are not kept
)

// bufferPool implements mem.BufferPool with buffers of 2 to 32 KiB.
type bufferPool struct {
	sizes [mostBuffer - leastBuffer + 1]sync.Pool // of *[]byte
}

// Get implements mem.BufferPool.
func (p *bufferPool) Get(length int) *[]byte {
	size := max(bits.Len(uint(max(length, 1)-1)), leastBuffer)
	if size > mostBuffer {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.sizes[size-leastBuffer].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<size)
	return &b
}

// Put implements mem.BufferPool.
func (p *bufferPool) Put(b *[]byte) {
	if size := bits.Len(uint(cap(*b))) - 1; size >= leastBuffer && size <= mostBuffer && cap(*b) == 1<<size {
		p.sizes[size-leastBuffer].Put(b)
	}
}
