// Command demo-server is an MCP server over stdin and stdout, for trying out
// mcpfleet. Its tools are a clock, an echo, a slow tool and a flaky one. Flags make it
// a bad version of itself, for trying out updates.
package main

import (
	"context"
	"errors"
	"flag"
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
	err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo-server:", err)
		os.Exit(1)
	}
}

// faults make a bad version of the server.
type faults struct {
	fail    float64 // the share of the calls that fail, after the first few
	without string  // a tool that there is not
}

// run serves until stdin ends or the process gets INT or TERM.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var f faults
	flags := flag.NewFlagSet("demo-server", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Float64Var(&f.fail, "fail", 0, "the share of the calls that fail after the first 10, from 0 to 1")
	flags.StringVar(&f.without, "without", "", "a tool to leave out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintf(stderr, "demo-server %s: serving MCP on stdin and stdout\n", version)
	err := serve(ctx, stdin, stdout, os.Exit, f)
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

func serve(ctx context.Context, stdin io.Reader, stdout io.Writer, exit func(int), f faults) error {
	s := server.NewStdioServer(newServer(exit, f))
	server.WithWorkerPoolSize(callsAtOnce)(s)
	server.WithQueueSize(callsQueued)(s)
	return s.Listen(ctx, stdin, stdout)
}
