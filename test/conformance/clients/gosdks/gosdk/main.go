// Program gosdk checks the official Go SDK, in either era: gosdk URL REVISION NAME
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpfleet/mcpfleet/test/conformance/clients/gosdks/checks"
)

func main() { checks.Main(connect) }

type client struct {
	*mcp.ClientSession

	mu       sync.Mutex
	tokens   int
	progress map[string]func(value, total float64) // by token
	level    string
}

func connect(ctx context.Context, o *checks.Options) (checks.Client, error) {
	c := &client{progress: map[string]func(value, total float64){}}
	capabilities := &mcp.ClientCapabilities{}
	if o.Roots {
		capabilities.RootsV2 = &mcp.RootCapabilities{ListChanged: true}
	}
	opts := &mcp.ClientOptions{
		Capabilities: capabilities,
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			c.mu.Lock()
			on := c.progress[fmt.Sprint(r.Params.ProgressToken)]
			c.mu.Unlock()
			if on != nil {
				on(r.Params.Progress, r.Params.Total)
			}
		},
		ResourceUpdatedHandler:   func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { o.Updated(r.Params.URI) },
		ToolListChangedHandler:   func(context.Context, *mcp.ToolListChangedRequest) { o.Changed("tools") },
		PromptListChangedHandler: func(context.Context, *mcp.PromptListChangedRequest) { o.Changed("prompts") },
		LoggingMessageHandler:    func(_ context.Context, r *mcp.LoggingMessageRequest) { o.Logged(r.Params.Data) },
	}
	if o.Sampling {
		opts.CreateMessageHandler = func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			text := r.Params.Messages[0].Content.(*mcp.TextContent).Text
			return &mcp.CreateMessageResult{Role: "assistant", Model: o.Name, Content: &mcp.TextContent{Text: o.Sampled(text)}}, nil
		}
	}
	if o.Elicitation {
		opts.ElicitationHandler = func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: o.Filled(r.Params.Message)}, nil
		}
	}
	m := mcp.NewClient(&mcp.Implementation{Name: o.Name, Version: "1"}, opts)
	if o.Roots {
		m.AddRoots(&mcp.Root{URI: o.Root(), Name: o.Name})
	}
	m.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if method == "sampling/createMessage" && !o.Sampling || method == "elicitation/create" && !o.Elicitation {
				o.Stray(method)
			}
			return next(ctx, method, r)
		}
	})
	transport := &mcp.StreamableClientTransport{Endpoint: o.URL, HTTPClient: &http.Client{}}
	if !o.Modern() {
		// SDK 1.7 has no other way to ask for the legacy era.
		transport.HTTPClient.Transport = legacyOnly{}
	}
	var err error
	c.ClientSession, err = m.Connect(ctx, transport, nil)
	return c, err
}

// legacyOnly answers server/discover as a legacy server does.
type legacyOnly struct{}

func (legacyOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
		var request struct {
			ID     json.RawMessage
			Method string
		}
		if json.Unmarshal(body, &request) == nil && request.Method == "server/discover" {
			answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"method not found"}}`, request.ID)
			return &http.Response{
				StatusCode: http.StatusOK, Status: "200 OK", Request: r, ProtoMajor: 1, ProtoMinor: 1,
				Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader([]byte(answer))),
			}, nil
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (c *client) Version() string { return c.InitializeResult().ProtocolVersion }

func (c *client) Tools(ctx context.Context) (map[string]any, error) {
	list := map[string]any{}
	for t, err := range c.ClientSession.Tools(ctx, nil) {
		if err != nil {
			return nil, err
		}
		list[t.Name] = t.InputSchema
	}
	return list, nil
}

func (c *client) Call(ctx context.Context, tool string, args map[string]any, progress func(value, total float64)) (checks.Result, error) {
	params := &mcp.CallToolParams{Meta: mcp.Meta{}, Name: tool, Arguments: args}
	c.mu.Lock()
	if c.level != "" {
		params.Meta["io.modelcontextprotocol/logLevel"] = c.level
	}
	if progress != nil {
		c.tokens++
		token := fmt.Sprint("token-", c.tokens)
		params.SetProgressToken(token)
		c.progress[token] = progress
	}
	c.mu.Unlock()
	r, err := c.CallTool(ctx, params)
	if err != nil {
		return checks.Result{}, err
	}
	result := checks.Result{Structured: r.StructuredContent, IsError: r.IsError}
	if len(r.Content) > 0 {
		if text, ok := r.Content[0].(*mcp.TextContent); ok {
			result.Text = text.Text
		}
	}
	return result, nil
}

func (c *client) Prompts(ctx context.Context) (names []string, err error) {
	r, err := c.ListPrompts(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range r.Prompts {
		names = append(names, p.Name)
	}
	return names, nil
}

func (c *client) Prompt(ctx context.Context, name string, args map[string]string) (string, error) {
	r, err := c.GetPrompt(ctx, &mcp.GetPromptParams{Name: name, Arguments: args})
	if err != nil {
		return "", err
	}
	return r.Messages[0].Content.(*mcp.TextContent).Text, nil
}

func (c *client) Resources(ctx context.Context) (uris []string, err error) {
	r, err := c.ListResources(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range r.Resources {
		uris = append(uris, p.URI)
	}
	return uris, nil
}

func (c *client) Templates(ctx context.Context) (uris []string, err error) {
	r, err := c.ListResourceTemplates(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, p := range r.ResourceTemplates {
		uris = append(uris, p.URITemplate)
	}
	return uris, nil
}

func (c *client) Read(ctx context.Context, uri string) (string, error) {
	r, err := c.ReadResource(ctx, &mcp.ReadResourceParams{URI: uri})
	if err != nil {
		return "", err
	}
	return r.Contents[0].Text, nil
}

func (c *client) Complete(ctx context.Context, prompt, argument, value string) ([]string, error) {
	r, err := c.ClientSession.Complete(ctx, &mcp.CompleteParams{
		Ref:      &mcp.CompleteReference{Type: "ref/prompt", Name: prompt},
		Argument: mcp.CompleteParamsArgument{Name: argument, Value: value},
	})
	if err != nil {
		return nil, err
	}
	return r.Completion.Values, nil
}

func (c *client) Subscribe(ctx context.Context, uri string) (func() error, error) {
	err := c.ClientSession.Subscribe(ctx, &mcp.SubscribeParams{URI: uri})
	return func() error { return c.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: uri}) }, err
}

// Listen does nothing: the SDK listens as soon as it is connected.
func (c *client) Listen(context.Context) (func(), error) { return func() {}, nil }

func (c *client) SetLevel(ctx context.Context, level string) error {
	if c.Version() < "2026" {
		return c.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: mcp.LoggingLevel(level)})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.level = level
	return nil
}

func (c *client) Close() error {
	if c.ClientSession == nil {
		return errors.New("not connected")
	}
	return c.ClientSession.Close()
}
