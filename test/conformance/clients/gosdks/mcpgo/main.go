// Program mcpgo checks the client of mcp-go, in either era: mcpgo URL REVISION NAME
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"

	mcpclient "github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/mcpfleet/mcpfleet/test/conformance/clients/gosdks/checks"
)

func main() { checks.Main(connect) }

type client struct {
	*mcpclient.Client
	o *checks.Options

	acknowledged chan struct{} // has a value when the server has acknowledged a subscription

	mu       sync.Mutex
	tokens   int
	progress map[string]func(value, total float64) // by token
}

type (
	sampler struct{ o *checks.Options }
	filler  struct{ o *checks.Options }
	rooted  struct{ o *checks.Options }
)

func (s sampler) CreateMessage(_ context.Context, r mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
	if !s.o.Sampling {
		s.o.Stray("sampling/createMessage")
	}
	text, err := textOf(r.Messages[0].Content)
	return &mcp.CreateMessageResult{
		SamplingMessage: mcp.SamplingMessage{Role: mcp.RoleAssistant, Content: mcp.NewTextContent(s.o.Sampled(text))},
		Model:           s.o.Name,
	}, err
}

func (f filler) Elicit(_ context.Context, r mcp.ElicitationRequest) (*mcp.ElicitationResult, error) {
	if !f.o.Elicitation {
		f.o.Stray("elicitation/create")
	}
	return &mcp.ElicitationResult{ElicitationResponse: mcp.ElicitationResponse{
		Action: mcp.ElicitationResponseActionAccept, Content: f.o.Filled(r.Params.Message),
	}}, nil
}

func (r rooted) ListRoots(context.Context, mcp.ListRootsRequest) (*mcp.ListRootsResult, error) {
	return &mcp.ListRootsResult{Roots: []mcp.Root{{URI: r.o.Root(), Name: r.o.Name}}}, nil
}

// textOf returns the text of a content, which may be decoded in several ways.
func textOf(content any) (string, error) {
	b, err := json.Marshal(content)
	var text struct{ Text string }
	if err == nil {
		err = json.Unmarshal(b, &text)
	}
	return text.Text, err
}

func connect(ctx context.Context, o *checks.Options) (checks.Client, error) {
	var settings []transport.StreamableHTTPCOption
	if !o.Modern() {
		settings = append(settings, transport.WithContinuousListening())
	}
	t, err := transport.NewStreamableHTTP(o.URL, append(settings, transport.WithHTTPLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		return nil, err
	}
	var options []mcpclient.ClientOption
	if o.Sampling {
		options = append(options, mcpclient.WithSamplingHandler(sampler{o}))
	}
	if o.Elicitation {
		options = append(options, mcpclient.WithElicitationHandler(filler{o}))
	}
	if o.Roots {
		options = append(options, mcpclient.WithRootsHandler(rooted{o}))
	}
	if !o.Modern() {
		options = append(options, mcpclient.WithLegacyProtocolOnly())
		o.NoCancel = true
	}
	c := &client{Client: mcpclient.NewClient(t, options...), o: o, progress: map[string]func(value, total float64){}, acknowledged: make(chan struct{}, 1)}
	c.OnNotification(c.notified)
	if err := c.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	request := mcp.InitializeRequest{}
	request.Params.ProtocolVersion = o.Revision
	request.Params.ClientInfo = mcp.Implementation{Name: o.Name, Version: "1"}
	_, err = c.Initialize(ctx, request)
	return c, err
}

func (c *client) notified(n mcp.JSONRPCNotification) {
	fields := n.Params.AdditionalFields
	switch n.Method {
	case "notifications/progress":
		c.mu.Lock()
		on := c.progress[fmt.Sprint(fields["progressToken"])]
		c.mu.Unlock()
		if on != nil {
			value, _ := fields["progress"].(float64)
			total, _ := fields["total"].(float64)
			go on(value, total) // it may cancel the call, which this goroutine reads
		}
	case mcp.MethodNotificationSubscriptionsAcknowledged:
		select {
		case c.acknowledged <- struct{}{}:
		default: // nobody has waited for the last one
		}
	case "notifications/resources/updated":
		c.o.Updated(fmt.Sprint(fields["uri"]))
	case "notifications/tools/list_changed":
		c.o.Changed("tools")
	case "notifications/prompts/list_changed":
		c.o.Changed("prompts")
	case "notifications/message":
		c.o.Logged(fields["data"])
	}
}

func (c *client) Version() string { return c.ProtocolVersion() }

func (c *client) Tools(ctx context.Context) (map[string]any, error) {
	r, err := c.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil {
		return nil, err
	}
	list := map[string]any{}
	for _, t := range r.Tools {
		b, err := json.Marshal(t)
		var tool struct{ InputSchema any }
		if err == nil {
			err = json.Unmarshal(b, &tool)
		}
		if err != nil {
			return nil, err
		}
		list[t.Name] = tool.InputSchema
	}
	return list, nil
}

func (c *client) Call(ctx context.Context, tool string, args map[string]any, progress func(value, total float64)) (checks.Result, error) {
	request := mcp.CallToolRequest{}
	request.Params.Name, request.Params.Arguments = tool, args
	if progress != nil {
		c.mu.Lock()
		c.tokens++
		token := fmt.Sprint("token-", c.tokens)
		c.progress[token] = progress
		c.mu.Unlock()
		request.Params.Meta = &mcp.Meta{ProgressToken: token}
	}
	r, err := c.CallTool(ctx, request)
	if err != nil {
		return checks.Result{}, err
	}
	result := checks.Result{Structured: r.StructuredContent, IsError: r.IsError}
	if len(r.Content) > 0 {
		result.Text, err = textOf(r.Content[0])
	}
	return result, err
}

func (c *client) Prompts(ctx context.Context) (names []string, err error) {
	r, err := c.ListPrompts(ctx, mcp.ListPromptsRequest{})
	if err != nil {
		return nil, err
	}
	for _, p := range r.Prompts {
		names = append(names, p.Name)
	}
	return names, nil
}

func (c *client) Prompt(ctx context.Context, name string, args map[string]string) (string, error) {
	request := mcp.GetPromptRequest{}
	request.Params.Name, request.Params.Arguments = name, args
	r, err := c.GetPrompt(ctx, request)
	if err != nil {
		return "", err
	}
	return textOf(r.Messages[0].Content)
}

func (c *client) Resources(ctx context.Context) (uris []string, err error) {
	r, err := c.ListResources(ctx, mcp.ListResourcesRequest{})
	if err != nil {
		return nil, err
	}
	for _, p := range r.Resources {
		uris = append(uris, p.URI)
	}
	return uris, nil
}

func (c *client) Templates(ctx context.Context) (uris []string, err error) {
	r, err := c.ListResourceTemplates(ctx, mcp.ListResourceTemplatesRequest{})
	if err != nil {
		return nil, err
	}
	for _, p := range r.ResourceTemplates {
		uris = append(uris, p.Name)
	}
	return uris, nil
}

func (c *client) Read(ctx context.Context, uri string) (string, error) {
	request := mcp.ReadResourceRequest{}
	request.Params.URI = uri
	r, err := c.ReadResource(ctx, request)
	if err != nil {
		return "", err
	}
	return textOf(r.Contents[0])
}

func (c *client) Complete(ctx context.Context, prompt, argument, value string) ([]string, error) {
	request := mcp.CompleteRequest{}
	request.Params.Ref = mcp.PromptReference{Type: "ref/prompt", Name: prompt}
	request.Params.Argument = mcp.CompleteArgument{Name: argument, Value: value}
	r, err := c.Client.Complete(ctx, request)
	if err != nil {
		return nil, err
	}
	return r.Completion.Values, nil
}

func (c *client) Subscribe(ctx context.Context, uri string) (func() error, error) {
	if c.o.Modern() {
		stop, err := c.listen(ctx, mcp.SubscriptionFilter{ResourceSubscriptions: []string{uri}})
		return func() error { stop(); return nil }, err
	}
	request := mcp.SubscribeRequest{}
	request.Params.URI = uri
	err := c.Client.Subscribe(ctx, request)
	return func() error {
		request := mcp.UnsubscribeRequest{}
		request.Params.URI = uri
		return c.Unsubscribe(ctx, request)
	}, err
}

func (c *client) Listen(ctx context.Context) (func(), error) {
	if !c.o.Modern() {
		return func() {}, nil
	}
	return c.listen(ctx, mcp.SubscriptionFilter{ToolsListChanged: true, PromptsListChanged: true})
}

// listen listens until stop is called. It returns once the server has acknowledged it.
func (c *client) listen(ctx context.Context, filter mcp.SubscriptionFilter) (stop func(), err error) {
	failed := make(chan error, 1)
	stop, err = c.ListenAsync(context.WithoutCancel(ctx), filter, func(err error) { failed <- err })
	if err != nil {
		return nil, err
	}
	select {
	case <-c.acknowledged:
		return stop, nil
	case err = <-failed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	stop()
	return nil, err
}

func (c *client) SetLevel(ctx context.Context, level string) error {
	request := mcp.SetLevelRequest{}
	request.Params.Level = mcp.LoggingLevel(level)
	return c.Client.SetLevel(ctx, request)
}
