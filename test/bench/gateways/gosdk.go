package main

import (
	"context"
	"net/http"
	"os/exec"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// goSDK returns a gateway on the official Go SDK, which answers as JSON where it can. Its
// handlers serve either sessions or modern requests.
func goSDK(ctx context.Context, command []string) (_ http.Handler, stop func() error, err error) {
	self := &mcp.Implementation{Name: "gateway", Version: "1"}
	transport := &mcp.CommandTransport{Command: exec.Command(command[0], command[1:]...)}
	session, err := mcp.NewClient(self, nil).Connect(ctx, transport, nil)
	if err != nil {
		return nil, nil, err
	}
	server := mcp.NewServer(self, nil)
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			session.Close()
			return nil, nil, err
		}
		server.AddTool(tool, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return session.CallTool(ctx, &mcp.CallToolParams{Name: r.Params.Name, Arguments: r.Params.Arguments})
		})
	}
	serverFor := func(*http.Request) *mcp.Server { return server }
	legacy := mcp.NewStreamableHTTPHandler(serverFor, &mcp.StreamableHTTPOptions{JSONResponse: true})
	modern := mcp.NewStreamableHTTPHandler(serverFor, &mcp.StreamableHTTPOptions{JSONResponse: true, Stateless: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Protocol-Version") >= "2026" {
			modern.ServeHTTP(w, r)
		} else {
			legacy.ServeHTTP(w, r)
		}
	}), session.Close, nil
}
