package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// mcpGo returns a gateway on mcp-go.
func mcpGo(ctx context.Context, command []string) (_ http.Handler, stop func() error, err error) {
	c, err := client.NewStdioMCPClient(command[0], nil, command[1:]...)
	if err != nil {
		return nil, nil, err
	}
	var hello mcp.InitializeRequest
	hello.Params.ProtocolVersion = mcp.LATEST_PROTOCOL_VERSION
	hello.Params.ClientInfo = mcp.Implementation{Name: "gateway", Version: "1"}
	if _, err = c.Initialize(ctx, hello); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	list, err := c.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	s := server.NewMCPServer("gateway", "1", server.WithToolCapabilities(false))
	for _, tool := range list.Tools {
		s.AddTool(tool, func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			var call mcp.CallToolRequest
			call.Params.Name, call.Params.Arguments = r.Params.Name, r.Params.Arguments
			return c.CallTool(ctx, call)
		})
	}
	return server.NewStreamableHTTPServer(s), c.Close, nil
}
