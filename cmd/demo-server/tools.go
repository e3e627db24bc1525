package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the demo image has no time zone files

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

const (
	maxSeconds = 3600
	steps      = 10 // progress notifications of one slow call
)

// newServer returns the server with its four tools. The tool that crashes calls
// exit to end the process.
func newServer(exit func(int), f faults) *server.MCPServer {
	s := server.NewMCPServer("mcpfleet-demo", version,
		server.WithToolCapabilities(false),
		server.WithRecovery(),
		server.WithToolHandlerMiddleware(failing(f.fail)),
		server.WithInstructions("Tools to try a fleet out with: time, echo, slow and flaky."))

	s.AddTool(mcp.NewTool("time",
		mcp.WithDescription("Returns the current time, and the id and host of the process that answers."),
		mcp.WithString("timezone", mcp.Description("IANA name of a time zone, such as Europe/Berlin"), mcp.DefaultString("UTC")),
		mcp.WithReadOnlyHintAnnotation(true), mcp.WithDestructiveHintAnnotation(false), mcp.WithOpenWorldHintAnnotation(false),
	), clock)

	s.AddTool(mcp.NewTool("echo",
		mcp.WithDescription("Returns the text it is given."),
		mcp.WithString("text", mcp.Description("What to return"), mcp.Required()),
		mcp.WithReadOnlyHintAnnotation(true), mcp.WithDestructiveHintAnnotation(false),
		mcp.WithIdempotentHintAnnotation(true), mcp.WithOpenWorldHintAnnotation(false),
	), echo)

	s.AddTool(mcp.NewTool("slow",
		mcp.WithDescription("Takes a while, reports progress, and can be cancelled."),
		mcp.WithNumber("seconds", mcp.Description("How long to take"), mcp.DefaultNumber(5), mcp.Min(0), mcp.Max(maxSeconds)),
		mcp.WithReadOnlyHintAnnotation(true), mcp.WithDestructiveHintAnnotation(false), mcp.WithOpenWorldHintAnnotation(false),
	), func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return slow(ctx, s, req)
	})

	s.AddTool(mcp.NewTool("flaky",
		mcp.WithDescription("Fails sometimes, or ends the whole process."),
		mcp.WithNumber("probability", mcp.Description("Probability of a failure, from 0 to 1"), mcp.DefaultNumber(0.5), mcp.Min(0), mcp.Max(1)),
		mcp.WithBoolean("crash", mcp.Description("Fail by ending the process"), mcp.DefaultBool(false)),
		mcp.WithReadOnlyHintAnnotation(false), mcp.WithDestructiveHintAnnotation(false), mcp.WithOpenWorldHintAnnotation(false),
	), func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) { return flaky(req, exit) })

	if f.without != "" {
		s.DeleteTools(f.without)
	}
	return s
}

// goodCalls is how many calls do not fail before some do.
const goodCalls = 10

// failing fails a share of the calls after the first few, as a server does whose key
// is used up.
func failing(share float64) server.ToolHandlerMiddleware {
	var calls atomic.Int64
	return func(next server.ToolHandlerFunc) server.ToolHandlerFunc {
		return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if calls.Add(1) > goodCalls && rand.Float64() < share {
				return mcp.NewToolResultError("429 Too Many Requests: the quota of this key is used up"), nil
			}
			return next(ctx, req)
		}
	}
}

func clock(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	zone, err := time.LoadLocation(req.GetString("timezone", "UTC"))
	if err != nil {
		return mcp.NewToolResultError("unknown time zone: " + err.Error()), nil
	}
	return mcp.NewToolResultText(fmt.Sprintf("%s from process %d on %s",
		time.Now().In(zone).Format(time.RFC3339Nano), os.Getpid(), hostname())), nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "an unnamed host"
	}
	return name
}

func echo(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	text, err := req.RequireString("text")
	if err != nil {
		return mcp.NewToolResultError(err.Error()), nil
	}
	return mcp.NewToolResultText(text), nil
}

func slow(ctx context.Context, s *server.MCPServer, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	seconds := req.GetFloat("seconds", 5)
	if !(seconds >= 0 && seconds <= maxSeconds) {
		return mcp.NewToolResultError(fmt.Sprintf("seconds must be between 0 and %d", maxSeconds)), nil
	}
	var token mcp.ProgressToken
	if req.Params.Meta != nil {
		token = req.Params.Meta.ProgressToken
	}
	step := time.NewTicker(max(time.Duration(seconds*float64(time.Second))/steps, time.Microsecond))
	defer step.Stop()
	for done := 1; done <= steps; done++ {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx) // the caller has gone, so nothing reads this
		case <-step.C:
		}
		if token == nil {
			continue
		}
		err := s.SendNotificationToClient(ctx, "notifications/progress", map[string]any{
			"progressToken": token, "progress": done, "total": steps, "message": fmt.Sprintf("step %d of %d", done, steps),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "demo-server: send progress:", err)
		}
	}
	return mcp.NewToolResultText(fmt.Sprintf("took %g seconds", seconds)), nil
}

func flaky(req mcp.CallToolRequest, exit func(int)) (*mcp.CallToolResult, error) {
	probability := req.GetFloat("probability", 0.5)
	if !(probability >= 0 && probability <= 1) {
		return mcp.NewToolResultError("probability must be between 0 and 1"), nil
	}
	if rand.Float64() >= probability {
		return mcp.NewToolResultText("it worked"), nil
	}
	if req.GetBool("crash", false) {
		fmt.Fprintln(os.Stderr, "demo-server: crashing, as asked")
		exit(3)
	}
	return mcp.NewToolResultError("failed, as this tool sometimes does"), nil
}
