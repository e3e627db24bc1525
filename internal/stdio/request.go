package stdio

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// Bounds of a paged list, so that a server cannot make it endless.
const (
	maxPages     = 1000
	maxListBytes = 64 << 20
)

// Request makes a call and waits for its reply, which must be released. If ctx ends first, the call is
// cancelled and Err wraps the context's cause.
func (c *Conn) Request(ctx context.Context, method string, params []byte) Reply {
	return c.request(ctx, method, params, false)
}

func (c *Conn) request(ctx context.Context, method string, params []byte, quiet bool) Reply {
	replies := make(chan Reply, 1)
	p, err := c.start(&Call{Method: method, Params: params, Done: func(r Reply) { replies <- r }}, quiet)
	if err != nil {
		return Reply{Err: err}
	}
	select {
	case r := <-replies:
		return r
	case <-ctx.Done():
	}
	c.Cancel(p, "the caller gave up")
	r := <-replies
	if errors.Is(r.Err, ErrCancelled) {
		r.Err = fmt.Errorf("%w: %w", r.Err, context.Cause(ctx))
	}
	return r
}

// Handshake opens the conversation in the legacy era. It offers the newest version that we know, and
// accepts the server's if we know it. If the server refuses and lists its versions, Handshake tries
// once more with one of these. It must be called once, before every other call.
func (c *Conn) Handshake(ctx context.Context) (*mcp.InitializeResult, error) {
	result, err := c.initialize(ctx, mcp.LatestLegacy)
	var refused *mcp.Error
	if errors.As(err, &refused) {
		if version := mcp.NewestSupported(refused); version != "" && version != mcp.LatestLegacy {
			result, err = c.initialize(ctx, version)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("initialize: %w", err)
	}
	if !mcp.IsLegacy(result.ProtocolVersion) {
		return nil, fmt.Errorf("initialize: the server speaks protocol version %q; known are %q", result.ProtocolVersion, mcp.LegacyVersions())
	}
	if err := c.Notify(mcp.MethodInitialized, nil); err != nil {
		return nil, fmt.Errorf("notifications/initialized: %w", err)
	}
	return result, nil
}

func (c *Conn) initialize(ctx context.Context, version string) (*mcp.InitializeResult, error) {
	r := c.request(ctx, mcp.MethodInitialize, mcp.InitializeParams(version, c.cfg.ClientInfo), true)
	defer r.Release()
	if err := r.Failure(); err != nil {
		return nil, err
	}
	return mcp.ParseInitializeResult(r.Result)
}

// ListTools returns all pages of tools/list, in the server's order. A tool without a name is left out
// with a warning, because nobody could call it.
func (c *Conn) ListTools(ctx context.Context) ([]mcp.Tool, error) {
	raw, err := c.List(ctx, mcp.MethodToolsList, "tools")
	if err != nil {
		return nil, err
	}
	tools := make([]mcp.Tool, 0, len(raw))
	for i := range raw {
		tool, err := mcp.ParseTool(raw[i])
		if err != nil {
			c.log.Warn("tool left out of tools/list", "index", i, "err", err)
			continue
		}
		tools = append(tools, tool)
	}
	return tools, nil
}

// List returns the elements of all pages of a list such as resources/list, whose results hold them in
// the named member. They are the caller's own.
func (c *Conn) List(ctx context.Context, method, member string) ([][]byte, error) {
	var all [][]byte
	var params []byte
	var seen []string
	for size := 0; len(seen) < maxPages; {
		page, cursor, err := c.page(ctx, method, member, params)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", method, err)
		}
		for _, element := range page {
			size += len(element)
		}
		if size > maxListBytes {
			return nil, fmt.Errorf("%s: more than %d bytes", method, maxListBytes)
		}
		all = append(all, page...)
		if cursor == "" {
			return all, nil
		}
		if slices.Contains(seen, cursor) {
			// The list would not end. The pages so far may be all of them.
			c.log.Warn("list ended because the server repeats a cursor", "method", method, "cursor", c.cfg.Quote([]byte(cursor), noiseQuote), "elements", len(all))
			return distinct(all), nil
		}
		seen = append(seen, cursor)
		params = append(mcp.AppendString([]byte(`{"cursor":`), cursor), '}')
	}
	return nil, fmt.Errorf("%s: more than %d pages", method, maxPages)
}

// distinct drops repeated elements. A server that ignores the cursor sends its first page again.
func distinct(elements [][]byte) [][]byte {
	seen := map[string]bool{}
	return slices.DeleteFunc(elements, func(e []byte) bool {
		repeated := seen[string(e)]
		seen[string(e)] = true
		return repeated
	})
}

func (c *Conn) page(ctx context.Context, method, member string, params []byte) (elements [][]byte, cursor string, err error) {
	r := c.Request(ctx, method, params)
	defer r.Release()
	if err := r.Failure(); err != nil {
		return nil, "", err
	}
	found, err := mcp.Fields(r.Result, member, "nextCursor")
	if err != nil {
		return nil, "", fmt.Errorf("result: %w", err)
	}
	if found[0] == nil {
		return nil, "", fmt.Errorf("result without %q", member)
	}
	if mcp.IsNull(found[0]) {
		found[0] = []byte("[]") // some encoders write an empty list as null
	}
	err = mcp.Elements(found[0], func(value []byte) bool {
		elements = append(elements, slices.Clone(value))
		return true
	})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", member, err)
	}
	if found[1] != nil && !mcp.IsNull(found[1]) {
		if cursor, err = mcp.String(found[1]); err != nil {
			return nil, "", fmt.Errorf("nextCursor: %w", err)
		}
	}
	return elements, cursor, nil
}
