// Command demo-server is an MCP server over stdin and stdout, for trying out
// mcpfleet. Its tools are a clock, an echo, a slow tool and a flaky one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/mark3labs/mcp-go/server"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := run(os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "demo-server:", err)
		os.Exit(1)
	}
}

// run serves until stdin ends or the process gets INT or TERM.
func run(stdin io.Reader, stdout, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintf(stderr, "demo-server %s: serving MCP on stdin and stdout\n", version)
	err := serve(ctx, stdin, stdout, os.Exit)
	if err == nil || errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// By default the library runs five calls at once, and five slow calls would
// block all others. A hundred is its maximum.
const (
	callsAtOnce = 100
	callsQueued = 1000
)

func serve(ctx context.Context, stdin io.Reader, stdout io.Writer, exit func(int)) error {
	s := server.NewStdioServer(newServer(exit))
	server.WithWorkerPoolSize(callsAtOnce)(s)
	server.WithQueueSize(callsQueued)(s)
	return s.Listen(ctx, stdin, stdout)
}
