// Command mcpfleet operates a fleet of MCP servers over its HTTP API, and runs
// a whole fleet on this machine.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mcpfleet/mcpfleet/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	os.Exit(run())
}

func run() int {
	dir := ""
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir = filepath.Dir(exe)
	}
	err := cli.Execute(context.Background(), cli.Config{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Env: os.Environ(), Lookup: os.LookupEnv, Version: version, BinDir: dir, Called: os.Args[0],
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "mcpfleet:", cli.Text(err))
	}
	return cli.ExitCode(err)
}
