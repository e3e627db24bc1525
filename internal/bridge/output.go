package bridge

import (
	"io"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// output writes messages for the client, one a line. Its methods may be called
// at any time.
type output struct {
	mu     sync.Mutex
	w      io.Writer
	err    error
	failed chan struct{} // closed at the first error
}

func newOutput(w io.Writer) *output {
	return &output{w: w, failed: make(chan struct{})}
}

// message writes one message, which is valid JSON.
func (o *output) message(raw []byte) {
	line := mcp.OneLine(raw)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	// Small messages are one write, so that a client never sees half a line for long.
	if len(line) < smallMessage {
		_, o.err = o.w.Write(append(line[:len(line):len(line)], '\n'))
	} else if _, o.err = o.w.Write(line); o.err == nil {
		_, o.err = o.w.Write([]byte{'\n'})
	}
	if o.err != nil {
		close(o.failed)
	}
}

// problem returns the error that ended the output.
func (o *output) problem() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
