package rollout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/breaking"
	"github.com/mcpfleet/mcpfleet/internal/expect"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mask"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// maxResult bounds the result of a verify call.
	maxResult = 8 << 20
	// maxShown is how many changed tools a reason lists.
	maxShown = 5
	// maxQuote bounds what a reason quotes of a server's error.
	maxQuote = 200
)

// check is what is checked before a new revision takes its first call.
type check struct {
	replica *fleet.Replica
	worker  interface {
		Call(ctx context.Context, req fleet.CallRequest, hooks fleet.CallHooks) (fleet.CallResult, error)
	}
	calls    []fleet.VerifyCall
	timeout  time.Duration // of each call
	mask     *mask.Masker
	old, new *fleet.Catalogue // nil: not known
	offers   func(tool string) bool
	own      func(tool string) string // the own name of a tool that may be renamed
}

// result is what a check found.
type result struct {
	// failed says why the revision is not fit to serve; "": it is.
	failed string
	// died means that the replica ended during a call, perhaps because of it.
	died bool
	// again is why nothing was found: the worker cannot be reached. The check is to be
	// repeated.
	again    error
	breaking string // how the tools have changed so that callers may break; "": not at all
	// blind means that the tools of a revision are not known, so none were compared.
	blind bool
}

// run makes the verify calls, one after the other, and compares the tools.
func (c *check) run(ctx context.Context) result {
	for i, v := range c.calls {
		err := c.verify(ctx, v)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil, errors.Is(err, fleet.ErrNotDelivered), errors.Is(err, fleet.ErrWorkerLost):
			return result{again: err}
		}
		return result{
			failed: fmt.Sprintf("verify call %d to tool %s: %v", i+1, v.Tool, err),
			died:   errors.Is(err, fleet.ErrReplicaLost),
		}
	}
	return result{breaking: breaking.Summary(breaking.Changes(c.old, c.new, c.offers), maxShown), blind: c.old == nil || c.new == nil}
}

// verify makes one call. The error says what was expected and what came.
func (c *check) verify(ctx context.Context, v fleet.VerifyCall) error {
	expected, err := expect.Parse(v.Expect)
	if err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fleet.ErrTimeout)
	defer cancel()
	args := v.Args
	if len(args) == 0 {
		args = []byte("{}")
	}
	res, err := c.worker.Call(ctx, fleet.CallRequest{
		Replica: c.replica.ID, Method: "tools/call", Params: mcp.CallParams(c.own(v.Tool), mcp.OneLine(args)),
		Trace: fleet.Trace{RequestID: fmt.Sprintf("verify-%s-%d", c.replica.Server, c.replica.Revision)},
	}, fleet.CallHooks{})
	switch {
	case errors.Is(context.Cause(ctx), fleet.ErrTimeout):
		return fmt.Errorf("no answer within %v", c.timeout)
	case err != nil:
		return hidden{err, c.mask}
	case res.Error != nil:
		return fmt.Errorf("expected a result, got the error %s", c.mask.Cut(string(res.Error), maxQuote))
	}
	body := res.Result
	if res.Stream != nil {
		if body, err = readStream(res); err != nil {
			return err
		}
	}
	return expected.Check(body, c.mask.Text)
}

// hidden is an error without the secrets that it may quote.
type hidden struct {
	error
	mask *mask.Masker
}

func (h hidden) Error() string { return h.mask.Text(h.error.Error()) }
func (h hidden) Unwrap() error { return h.error }

// readStream reads a large result.
func readStream(res fleet.CallResult) ([]byte, error) {
	defer res.Stream.Close()
	if res.StreamSize > maxResult {
		return nil, fmt.Errorf("its result of %d bytes is too large to be checked; at most %d are", res.StreamSize, maxResult)
	}
	body, err := io.ReadAll(io.LimitReader(res.Stream, maxResult))
	if err != nil {
		return nil, fmt.Errorf("read its result: %w", err)
	}
	return body, nil
}
