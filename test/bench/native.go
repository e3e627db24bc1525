package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	modernVersion = "2026-07-28"
	legacyVersion = "2025-11-25"
)

// maxNative bounds the size of the calls that MCP endpoints are measured with. go-sdk
// takes no bodies above 4 MiB, and larger calls are what the other subjects show.
const maxNative = 64 << 10

// mcpClient is a client of an MCP endpoint. Its methods may be called at once.
type mcpClient struct {
	http  *http.Client // for all but calls
	calls transport
	url   string
	ids   atomic.Int64

	mu   sync.Mutex
	free []string // ids of legacy sessions that no call uses
}

// newMCPClient returns a client that keeps its connections. idle closes them.
func newMCPClient(url string) (c *mcpClient, idle func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}
	c = &mcpClient{http: &http.Client{Transport: transport}, url: url}
	return c, func() {
		transport.CloseIdleConnections()
		c.calls.close()
	}
}

// paths returns the ways to call an endpoint: as a modern client, and as a legacy one.
func (c *mcpClient) paths(subject string) []path {
	return []path{
		{subject + " modern", c.callModern, maxNative},
		{subject + " legacy", c.callLegacy, maxNative},
	}
}

// callModern calls the echo tool as a modern client: a request on its own.
func (c *mcpClient) callModern(ctx context.Context, text string) error {
	params := callParams{Name: "echo", Arguments: echoArgs{text}, Meta: &modernMeta}
	return c.echo(ctx, &params, text, modernHeader("tools/call", "echo"))
}

// callLegacy calls the echo tool in a session that no other call uses meanwhile, as
// each client has its own.
func (c *mcpClient) callLegacy(ctx context.Context, text string) (err error) {
	c.mu.Lock()
	var session string
	if n := len(c.free); n > 0 {
		session, c.free = c.free[n-1], c.free[:n-1]
	}
	c.mu.Unlock()
	if session == "" {
		if session, err = c.initialize(ctx); err != nil {
			return err
		}
	}
	params := callParams{Name: "echo", Arguments: echoArgs{text}}
	if err := c.echo(ctx, &params, text, sessionHeader(session)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, session)
	return nil
}

// The messages are structs, because a client that costs more takes cores from what is
// measured.
type message struct {
	JSONRPC string `json:"jsonrpc"`
	ID      int64  `json:"id,omitempty"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

type callParams struct {
	Name      string   `json:"name"`
	Arguments echoArgs `json:"arguments"`
	Meta      *meta    `json:"_meta,omitempty"`
}

type echoArgs struct {
	Text string `json:"text"`
}

// meta is what a modern client says in each request.
type meta struct {
	Version      string     `json:"io.modelcontextprotocol/protocolVersion"`
	Client       clientInfo `json:"io.modelcontextprotocol/clientInfo"`
	Capabilities struct{}   `json:"io.modelcontextprotocol/clientCapabilities"`
}

type clientInfo struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

var (
	bench      = clientInfo{"bench", "1"}
	modernMeta = meta{Version: modernVersion, Client: bench}
)

func modernHeader(method, name string) http.Header {
	h := http.Header{"Mcp-Protocol-Version": {modernVersion}, "Mcp-Method": {method}}
	if name != "" {
		h.Set("Mcp-Name", name)
	}
	return h
}

func sessionHeader(session string) http.Header {
	return http.Header{"Mcp-Protocol-Version": {legacyVersion}, "Mcp-Session-Id": {session}}
}

func (c *mcpClient) echo(ctx context.Context, params any, text string, header http.Header) error {
	req, err := c.message(ctx, "tools/call", c.ids.Add(1), params, header)
	if err != nil {
		return err
	}
	resp, err := c.calls.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	reply := bytes.NewBuffer(make([]byte, 0, len(text)+1024))
	if _, err := reply.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", resp.Status, reply)
	}
	return check(reply.Bytes(), text)
}

// initialize opens a legacy session.
func (c *mcpClient) initialize(ctx context.Context) (session string, err error) {
	resp, err := c.post(ctx, "initialize", c.ids.Add(1), map[string]any{
		"protocolVersion": legacyVersion, "capabilities": struct{}{}, "clientInfo": bench}, nil)
	if err != nil {
		return "", err
	}
	if err := drain(resp, http.StatusOK); err != nil {
		return "", err
	}
	if session = resp.Header.Get("Mcp-Session-Id"); session == "" {
		return "", errors.New("initialize: no session id")
	}
	if resp, err = c.post(ctx, "notifications/initialized", 0, nil, sessionHeader(session)); err != nil {
		return "", err
	}
	return session, drain(resp, http.StatusAccepted)
}

// post sends a message. Notifications have the id 0.
func (c *mcpClient) post(ctx context.Context, method string, id int64, params any, header http.Header) (*http.Response, error) {
	req, err := c.message(ctx, method, id, params, header)
	if err != nil {
		return nil, err
	}
	return c.http.Do(req)
}

// message returns the request with a message.
func (c *mcpClient) message(ctx context.Context, method string, id int64, params any, header http.Header) (*http.Request, error) {
	body, err := json.Marshal(&message{"2.0", id, method, params})
	if err != nil {
		return nil, err
	}
	return c.request(ctx, http.MethodPost, body, header)
}

func (c *mcpClient) request(ctx context.Context, verb string, body []byte, header http.Header) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, verb, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if verb == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// drain reads a response, which must have that status.
func drain(resp *http.Response, want int) error {
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s: %.200s", resp.Status, strings.TrimSpace(text.String()))
	}
	return nil
}

// startGateway measures a gateway built from an SDK: one process, and the server as its
// child. Makefile builds the program, which has a module of its own.
func startGateway(sdk string) func(context.Context, config) (*running, error) {
	return func(ctx context.Context, cfg config) (*running, error) {
		program, err := os.Executable()
		if err != nil {
			return nil, err
		}
		g, err := startChild(ctx, filepath.Join(cfg.bin, "bench-gateways"), sdk, program, "echo")
		if err != nil {
			return nil, err
		}
		client, idle := newMCPClient("http://" + g.first + "/mcp")
		procs := append([]proc{driver(), {"gateway", g.pid()}}, childrenOf(g.pid(), "server")...)
		return &running{paths: client.paths(sdk), procs: procs, stop: func() { idle(); g.stop() }}, nil
	}
}
