package mcphttp

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// maxBatch bounds the messages of a batch.
const maxBatch = 100

// serveBatch answers an array of messages. Only the version 2025-03-26 has them. The
// requests of a batch run one after the other, and are answered together.
func (f *Front) serveBatch(w *web.Response, r *http.Request, body []byte) error {
	a := acceptsOf(r)
	if !a.json && !a.events {
		return errAccept
	}
	if version := r.Header[headerVersion]; len(version) > 0 && !mcp.IsLegacy(version[0]) {
		return failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: the modern era has no batches")
	}
	s, err := f.open(r)
	if err != nil {
		return err
	}
	if s.version != mcp.Version20250326 {
		return failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: the version %s has no batches", s.version)
	}
	var batch [][]byte
	_ = mcp.Elements(body, func(raw []byte) bool { // it was scanned before
		batch = append(batch, raw)
		return len(batch) <= maxBatch
	})
	if len(batch) == 0 || len(batch) > maxBatch {
		return failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: a batch has 1 to %d messages", maxBatch)
	}
	var answers [][]byte
	for _, raw := range batch {
		if answer := f.answerOne(w, r, s, raw); answer != nil {
			answers = append(answers, answer)
		}
	}
	if len(answers) == 0 {
		return accepted(w)
	}
	if !a.json {
		to := newEvents(w)
		for _, answer := range answers {
			to.put(event{head: answer, keep: true})
		}
		to.end()
		return to.run(source{gone: r.Context().Done()})
	}
	w.BeginJSON(http.StatusOK, -1)
	_, _ = w.Write([]byte{'['})
	_ = w.WriteAll(bytes.Join(answers, []byte{','}))
	_, _ = w.Write([]byte{']'})
	return nil
}

// answerOne returns the answer to one message of a batch, nil if it has none.
func (f *Front) answerOne(w *web.Response, r *http.Request, s *session, raw []byte) []byte {
	m, err := readMessage(mcp.Scan(raw))
	f.metrics.message(eraLegacy, &m)
	switch {
	case err != nil:
		return errorLine(err, m.id, w.RequestID())
	case m.kind == mcp.KindBatch:
		return errorLine(failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: a batch inside a batch"), nil, w.RequestID())
	case m.kind != mcp.KindRequest:
		_ = f.take(r.Context(), s, &m) // a batch has no place for the failure
		return nil
	case m.method == mcp.MethodInitialize:
		return errorLine(failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: initialize must not be part of a batch"), m.id, w.RequestID())
	}
	p := newReply(w, r, m.id, accepts{json: true})
	out := f.answerLegacy(p, s, &m)
	if out.unanswered {
		return nil
	}
	if out.stream != nil {
		defer out.stream.Close()
		if out.result, err = io.ReadAll(out.stream); err != nil {
			out.err = fmt.Errorf("read the result: %w", err)
		}
		out.stream = nil
	}
	return p.event(out).head
}
