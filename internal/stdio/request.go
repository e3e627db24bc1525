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

// Handshake opens the conversation in the legacy era, as Open does for such a server. It offers the
// newest version that we know, and accepts the server's if we know it. If the server refuses and lists
// its versions, Handshake tries once more with one of these. It must be called once, before every
// other call.
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

// Listing is what a server lists, all pages of it.
type Listing struct {
	Elements [][]byte // raw, in the server's order; the caller's own
	// Hint is how long all of it may be cached. It is zero in the legacy era.
	Hint mcp.CacheHint
}

// ListTools returns all pages of tools/list. A tool without a name is left out with a warning, because
// nobody could call it.
func (c *Conn) ListTools(ctx context.Context) (Listing, error) {
	all, err := c.List(ctx, mcp.MethodToolsList, "tools")
	if err != nil {
		return Listing{}, err
	}
	index := -1
	all.Elements = slices.DeleteFunc(all.Elements, func(raw []byte) bool {
		index++
		_, err := mcp.ParseTool(raw)
		if err != nil {
			c.log.Warn("tool left out of tools/list", "index", index, "err", err)
		}
		return err != nil
	})
	return all, nil
}

// List returns all pages of a list such as resources/list, whose results hold its elements in the
// named member.
func (c *Conn) List(ctx context.Context, method, member string) (Listing, error) {
	var all Listing
	var cursor string
	var seen []string
	for size := 0; len(seen) < maxPages; {
		page, next, err := c.page(ctx, method, member, cursor)
		if err != nil {
			return Listing{}, fmt.Errorf("%s: %w", method, err)
		}
		for _, element := range page.Elements {
			size += len(element)
		}
		if size > maxListBytes {
			return Listing{}, fmt.Errorf("%s: more than %d bytes", method, maxListBytes)
		}
		all.add(page, len(seen) == 0)
		if next == "" {
			return all, nil
		}
		if slices.Contains(seen, next) {
			// The list would not end. The pages so far may be all of them.
			c.log.Warn("list ended because the server repeats a cursor", "method", method, "cursor", c.cfg.Quote([]byte(next), noiseQuote), "elements", len(all.Elements))
			all.Elements = distinct(all.Elements)
			return all, nil
		}
		seen, cursor = append(seen, next), next
	}
	return Listing{}, fmt.Errorf("%s: more than %d pages", method, maxPages)
}

// add adds a page. The most cautious hint of all pages counts.
func (l *Listing) add(page Listing, first bool) {
	l.Elements = append(l.Elements, page.Elements...)
	if first {
		l.Hint = page.Hint
		return
	}
	l.Hint.TTL = min(l.Hint.TTL, page.Hint.TTL)
	if page.Hint.Scope == mcp.ScopePrivate {
		l.Hint.Scope = mcp.ScopePrivate
	}
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

func (c *Conn) page(ctx context.Context, method, member, cursor string) (page Listing, next string, err error) {
	r := c.Request(ctx, method, c.pageParams(cursor))
	defer r.Release()
	if err := r.Failure(); err != nil {
		return page, "", err
	}
	found, err := mcp.Fields(r.Result, member, "nextCursor", "ttlMs", "cacheScope")
	if err != nil {
		return page, "", fmt.Errorf("result: %w", err)
	}
	if found[0] == nil {
		return page, "", fmt.Errorf("result without %q", member)
	}
	if mcp.IsNull(found[0]) {
		found[0] = []byte("[]") // some encoders write an empty list as null
	}
	err = mcp.Elements(found[0], func(value []byte) bool {
		page.Elements = append(page.Elements, slices.Clone(value))
		return true
	})
	if err != nil {
		return page, "", fmt.Errorf("%s: %w", member, err)
	}
	if found[1] != nil && !mcp.IsNull(found[1]) {
		if next, err = mcp.String(found[1]); err != nil {
			return page, "", fmt.Errorf("nextCursor: %w", err)
		}
	}
	if c.own.Load() != nil {
		page.Hint = mcp.ParseCacheHint(found[2], found[3])
	}
	return page, next, nil
}

// pageParams returns the params of the request for a page; "" is the first one.
func (c *Conn) pageParams(cursor string) []byte {
	var params []byte
	if own := c.own.Load(); own != nil {
		params = slices.Clone(own.params)
	}
	if cursor == "" {
		return params
	}
	if params == nil {
		params = []byte("{")
	} else {
		params[len(params)-1] = ',' // it is an object with a member
	}
	return append(mcp.AppendString(append(params, `"cursor":`...), cursor), '}')
}
