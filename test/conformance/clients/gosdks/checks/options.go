package checks

import (
	"slices"
	"sync"
)

// Options say how a client connects, and receive what servers send to it.
type Options struct {
	URL, Revision, Name          string
	Sampling, Elicitation, Roots bool // what the client can do
	// NoCancel is set if the SDK does not tell the server when a call is given up.
	NoCancel bool

	mu      sync.Mutex
	updated []string // URIs of changed resources
	changed []string // kinds of changed lists
	logged  []any    // data of log messages
	stray   []string // requests that the client cannot answer
}

// Modern reports whether the client speaks 2026-07-28 or later.
func (o *Options) Modern() bool { return o.Revision >= "2026" }

// Updated records that a resource was updated.
func (o *Options) Updated(uri string) { record(o, &o.updated, uri) }

// Changed records that a list was changed.
func (o *Options) Changed(kind string) { record(o, &o.changed, kind) }

// Logged records a log message.
func (o *Options) Logged(data any) { record(o, &o.logged, data) }

// Stray records a request that the client cannot answer.
func (o *Options) Stray(method string) { record(o, &o.stray, method) }

func record[T any](o *Options, list *[]T, v T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*list = append(*list, v)
}

func recorded[T any](o *Options, list *[]T) []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(*list)
}

// Sampled returns the answer to a sampling request.
func (o *Options) Sampled(question string) string { return o.Name + " says " + question }

// Filled returns the answer to an elicitation request.
func (o *Options) Filled(message string) map[string]any {
	return map[string]any{"name": o.Name, "answer": o.Name + " fills in " + message}
}

// Root returns the URI of the client's only root.
func (o *Options) Root() string { return "file:///home/" + o.Name }
