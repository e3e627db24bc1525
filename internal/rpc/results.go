package rpc

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

const chunkBytes = 256 << 10

// results keeps large results until they are fetched, once. A result that is taken
// out must be released.
type results struct {
	keep time.Duration
	log  *slog.Logger

	mu      sync.Mutex
	byToken map[string]*heldResult // nil after close
}

type heldResult struct {
	trace fleet.Trace // of its call
	data  []byte
	free  func() // may be nil
	gone  func() // called without the lock when it is taken out
	timer *time.Timer
}

func newResults(keep time.Duration, log *slog.Logger) *results {
	return &results{keep: keep, log: log, byToken: make(map[string]*heldResult)}
}

// put keeps a result and returns its token. Whoever has the token can fetch the
// result, so it is unguessable.
func (r *results) put(trace fleet.Trace, data []byte, free, gone func()) string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	token := hex.EncodeToString(b[:])
	h := &heldResult{trace: trace, data: data, free: free, gone: gone}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byToken == nil {
		h.release()
		return token
	}
	r.byToken[token] = h
	h.timer = time.AfterFunc(r.keep, func() { r.expire(token) })
	return token
}

// take takes a result out. It returns nil for one that is no longer kept.
func (r *results) take(token string) *heldResult {
	r.mu.Lock()
	h := r.byToken[token]
	delete(r.byToken, token)
	r.mu.Unlock()
	if h != nil {
		h.timer.Stop()
		h.gone()
	}
	return h
}

func (r *results) expire(token string) {
	if h := r.take(token); h != nil {
		r.log.Info("large result was not fetched", h.trace.Attr(), "bytes", len(h.data), "waited", r.keep)
		h.release()
	}
}

func (r *results) drop(token string) {
	if h := r.take(token); h != nil {
		h.release()
	}
}

func (r *results) close() {
	r.mu.Lock()
	all := r.byToken
	r.byToken = nil
	r.mu.Unlock()
	for _, h := range all {
		h.timer.Stop()
		h.release()
	}
}

// release returns the bytes to the worker's budget.
func (h *heldResult) release() {
	h.data = nil
	if h.free != nil {
		h.free()
	}
}

// FetchResult implements the service. The result's bytes count against the
// worker's budget until the last has been sent.
func (s *Server) FetchResult(r *fleetpb.FetchResultRequest, stream grpc.ServerStreamingServer[fleetpb.FetchResultResponse]) error {
	h := s.results.take(r.GetToken())
	if h == nil {
		return toStatus(fmt.Errorf("%w: its result is no longer kept", fleet.ErrReplicaLost))
	}
	defer h.release()
	for b := h.data; len(b) > 0; {
		n := min(chunkBytes, len(b))
		if err := stream.SendMsg(encodeChunk(b[:n])); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
