// Program gateways is an MCP gateway as people build it from an SDK in an afternoon: the
// SDK's Streamable HTTP server in front of one stdio server, reached by the SDK's client.
// The bench compares mcpfleet with it. It prints its address and serves until SIGTERM:
//
//	gateways go-sdk|mcp-go COMMAND [ARGUMENT]...
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gateways:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: gateways go-sdk|mcp-go COMMAND [ARGUMENT]...")
	}
	var (
		handler http.Handler
		stop    func() error
		err     error
	)
	switch args[0] {
	case "go-sdk":
		handler, stop, err = goSDK(ctx, args[1:])
	case "mcp-go":
		handler, stop, err = mcpGo(ctx, args[1:])
	default:
		err = fmt.Errorf("unknown SDK %q", args[0])
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, stop())
	}
	fmt.Println(l.Addr())
	srv := &http.Server{Handler: handler}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err = srv.Serve(l); errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, stop())
}
