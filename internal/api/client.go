package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Client sends requests to a controller. Its methods may be called at any time. An
// answer that is not a success is returned as an *Error.
type Client struct {
	base string // without a slash at its end
	http *http.Client
}

// NewClient returns a client for the controller at address, which is a URL or
// host:port. If client is nil it uses an HTTP client without a timeout: contexts
// bound the requests.
func NewClient(address string, client *http.Client) (*Client, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("controller address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("controller address %q is not like http://host:port", address)
	}
	if client == nil {
		client = &http.Client{}
	}
	return &Client{base: strings.TrimRight(u.String(), "/"), http: client}, nil
}

// Address returns the base URL of the controller.
func (c *Client) Address() string { return c.base }

// Servers returns all servers, by name.
func (c *Client) Servers(ctx context.Context) ([]Server, error) {
	out, err := c.List(ctx, ReadOptions{})
	return out.Servers, err
}

// Replicas returns all replicas that have not ended.
func (c *Client) Replicas(ctx context.Context) ([]Replica, error) {
	var out Replicas
	err := c.get(ctx, "/api/v1/replicas", &out)
	return out.Replicas, err
}

// Nodes returns all controllers and workers.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var out Nodes
	err := c.get(ctx, "/api/v1/nodes", &out)
	return out.Nodes, err
}

// Tools returns the tools of an endpoint: of a server, a gateway, or with "" of all servers.
func (c *Client) Tools(ctx context.Context, scope fleet.Scope) (Tools, error) {
	var out Tools
	err := c.get(ctx, scopePath(scope)+"/tools", &out)
	return out, err
}

// Ready returns which servers are ready. It returns no error if some are not.
func (c *Client) Ready(ctx context.Context) (Ready, error) {
	var out Ready
	resp, err := c.do(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return out, errorOf(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("decode GET /readyz: %w", err)
	}
	return out, nil
}

// Call calls a tool and returns the raw MCP CallToolResult. With scope "" it calls
// the root, where names of tools include their server.
func (c *Client) Call(ctx context.Context, scope fleet.Scope, req CallRequest) (json.RawMessage, error) {
	if len(req.ToolArgs) == 0 {
		req.ToolArgs = json.RawMessage("{}")
	}
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	resp, err := c.do(ctx, http.MethodPost, scopePath(scope)+"/call", body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errorOf(resp)
	}
	var out CallResponse
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("decode the call's answer: %w", err)
	}
	return out.Result, nil
}

// LogOptions select lines of a replica's stderr.
type LogOptions struct {
	Tail   int  // number of last lines; 0: all that are kept
	Follow bool // and new lines, until ctx or the replica ends
	// Timestamps puts the time and a space before each line, in RFC 3339. Replicas
	// that have ended have no times, and "-" instead.
	Timestamps bool
}

// Logs writes a replica's stderr lines to w. With Follow it returns nil when ctx
// ends.
func (c *Client) Logs(ctx context.Context, id fleet.ReplicaID, opts LogOptions, w io.Writer) error {
	query := url.Values{}
	if opts.Tail > 0 {
		query.Set("tail", strconv.Itoa(opts.Tail))
	}
	if opts.Follow {
		query.Set("follow", "true")
	}
	if opts.Timestamps {
		query.Set("timestamps", "true")
	}
	path := "/api/v1/replicas/" + url.PathEscape(string(id)) + "/logs"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil && (!opts.Follow || ctx.Err() == nil) {
		return fmt.Errorf("read logs of %s: %w", id, err)
	}
	return nil
}

func scopePath(scope fleet.Scope) string {
	switch {
	case scope == "":
		return ""
	case scope.Gateway() != "":
		return "/g/" + url.PathEscape(scope.Gateway())
	}
	return "/" + url.PathEscape(string(scope))
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("decode GET %s: %w", path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	return c.send(ctx, method, path, body, http.Header{})
}

func (c *Client) send(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if header != nil {
		req.Header = header
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// The enclosing url.Error repeats method and URL.
		if inner := new(url.Error); errors.As(err, &inner) {
			err = inner.Err
		}
		return nil, fmt.Errorf("%s %s%s: %w", method, c.base, path, err)
	}
	return resp, nil
}

// maxErrorBody bounds how much is read of an answer that is not a success.
const maxErrorBody = 1 << 20

func errorOf(resp *http.Response) error {
	e := &Error{}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil || json.Unmarshal(body, e) != nil || e.Detail == "" {
		// Not from a controller: a proxy, or another program at this address.
		e.Detail = fmt.Sprintf("answer %q without a reason", resp.Status)
		if text := strings.TrimSpace(string(body)); text != "" && len(text) <= 200 {
			e.Detail = fmt.Sprintf("answer %q: %s", resp.Status, text)
		}
	}
	e.Status = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get("X-Request-ID")
	}
	return e
}
