package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
)

const (
	// maxMessage is the longest message in either direction. A line of 64 MiB
	// fits with the envelope of the message around it.
	maxMessage = 64<<20 + 64<<10

	// smallMessage is how much of a message is collected freely. A longer one
	// needs one of largeMessages places, so that the memory is bounded.
	smallMessage  = 64 << 10
	largeMessages = 4
)

var errTooLong = errors.New("the message is longer than 64 MiB")

// places are the places for large messages from the network.
type places chan struct{}

func newPlaces() places { return make(places, largeMessages) }

// buffer collects one message from the network. It waits for a place once the
// message is large, and holds it until the reset. It has one owner.
type buffer struct {
	ctx    context.Context // of the request that the buffer belongs to
	places places
	max    int
	b      []byte
	held   bool
}

func newBuffer(ctx context.Context, p places) *buffer {
	return &buffer{ctx: ctx, places: p, max: maxMessage}
}

func (b *buffer) write(p []byte) error {
	if len(b.b)+len(p) > b.max {
		return errTooLong
	}
	if len(b.b)+len(p) > smallMessage {
		if err := b.enlarge(); err != nil {
			return err
		}
	}
	if cap(b.b) < len(b.b)+len(p) {
		b.b = slices.Grow(b.b, max(len(p), len(b.b))) // doubles, so that a long message leaves little garbage
	}
	b.b = append(b.b, p...)
	return nil
}

// enlarge waits for a place for a large message, unless the buffer has one.
func (b *buffer) enlarge() error {
	if b.held {
		return nil
	}
	select {
	case b.places <- struct{}{}:
		b.held = true
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

func (b *buffer) add(c byte) error { return b.write([]byte{c}) }

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	if err := b.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// truncate removes the last n bytes.
func (b *buffer) truncate(n int) { b.b = b.b[:len(b.b)-n] }

// reset empties the buffer and leaves its place to others.
func (b *buffer) reset() {
	if cap(b.b) > smallMessage {
		b.b = nil
	}
	b.b = b.b[:0]
	if b.held {
		<-b.places
		b.held = false
	}
}

// from collects the whole body of a response that is not larger than max.
func (b *buffer) from(resp *http.Response) error {
	if n := resp.ContentLength; n > smallMessage && n <= int64(b.max) {
		if err := b.enlarge(); err != nil {
			return err
		}
		b.b = slices.Grow(b.b, int(n))
	}
	_, err := io.Copy(b, resp.Body)
	return err
}
