package checks

import (
	"context"
	"errors"
)

// Result is a tool's result.
type Result struct {
	Text       string // of its first content
	Structured any
	IsError    bool
}

// Client is a connected client.
type Client interface {
	Version() string
	Tools(ctx context.Context) (map[string]any, error) // input schemas by name
	// Call calls a tool. progress gets the values and totals of its progress, if it is not nil.
	Call(ctx context.Context, tool string, args map[string]any, progress func(value, total float64)) (Result, error)
	Prompts(ctx context.Context) (names []string, err error)
	Prompt(ctx context.Context, name string, args map[string]string) (text string, err error)
	Resources(ctx context.Context) (uris []string, err error)
	Templates(ctx context.Context) (uris []string, err error)
	Read(ctx context.Context, uri string) (text string, err error)
	Complete(ctx context.Context, prompt, argument, value string) ([]string, error)
	Subscribe(ctx context.Context, uri string) (unsubscribe func() error, err error)
	Listen(ctx context.Context) (stop func(), err error) // for changes of lists
	SetLevel(ctx context.Context, level string) error
	Close() error
}

// Connect connects a client.
type Connect func(ctx context.Context, o *Options) (Client, error)

// errSkip is the error of what an SDK cannot do.
var errSkip = errors.New("skip: the SDK cannot do this")
