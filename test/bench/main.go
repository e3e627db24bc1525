// Command bench measures the call path as ratios in one run: the stdio server
// driven directly over its pipes, a bare net/http echo, the naive chain (HTTP,
// unary gRPC, encoding/json at each hop), one worker by gRPC, the whole of mcpfleet
// over HTTP, by /call and by MCP, and gateways built from SDKs. The worker and mcpfleet
// are measured with podman, too, where it works.
//
// The subjects take turns within each round, because a shared machine drifts by
// more than the differences that matter. Medians over the rounds are compared.
// Every reply is checked. Everything that bench starts uses only loopback, is
// bounded in time, and is gone when bench ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs the driver, or the child that the first argument names.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "echo":
			return echoServer(os.Stdin, os.Stdout)
		case "slow":
			return slowServer(os.Stdin, os.Stdout, slowDelay)
		case "http":
			return bareHTTP(ctx, stdout)
		case "naive-front":
			return naiveFront(ctx, args[1], stdout)
		case "naive-worker":
			return naiveWorker(ctx, stdout)
		}
	}
	cfg, err := parse(args, stderr)
	if err != nil {
		return err
	}
	return measure(ctx, cfg, stdout, stderr)
}

type config struct {
	rounds   int
	duration time.Duration
	callers  []int
	sizes    []int
	overload bool
	idle     time.Duration
	only     string
	bin      string
	podman   string
	report   string
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	var callers, sizes string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&c.rounds, "rounds", 3, "rounds; medians over them are reported")
	fs.DurationVar(&c.duration, "duration", 2*time.Second, "time for each subject, size and number of callers in a round")
	fs.StringVar(&callers, "callers", "1,8,64", "numbers of concurrent callers")
	fs.StringVar(&sizes, "sizes", "1024,1048576", "bytes of text a call echoes")
	fs.BoolVar(&c.overload, "overload", true, "measure a server that has more callers than it can serve, too")
	fs.DurationVar(&c.idle, "idle", 20*time.Second, "time to measure a controller with idle clients, for each kind; 0: do not")
	fs.StringVar(&c.only, "only", "", "comma-separated subjects to run instead of all")
	fs.StringVar(&c.bin, "bin", "bin", "directory of the built programs")
	fs.StringVar(&c.podman, "podman", "auto", "auto, yes or no: the subjects with containers")
	fs.StringVar(&c.report, "report", "", "write the results as Markdown to this file")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	var err error
	if c.callers, err = ints(callers); err != nil {
		return c, fmt.Errorf("-callers: %w", err)
	}
	if c.sizes, err = ints(sizes); err != nil {
		return c, fmt.Errorf("-sizes: %w", err)
	}
	if c.rounds < 1 || c.duration <= 0 || c.idle < 0 {
		return c, errors.New("-rounds and -duration must be positive, and -idle not negative")
	}
	if c.podman != "auto" && c.podman != "yes" && c.podman != "no" {
		return c, fmt.Errorf("-podman must be auto, yes or no, not %q", c.podman)
	}
	c.bin, err = filepath.Abs(c.bin)
	return c, err
}

func ints(list string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a positive number", s)
		}
		out = append(out, n)
	}
	return out, nil
}
