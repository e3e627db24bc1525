// Package checks has what a client must be able to do with the fixtures, whatever its
// SDK and era. It is checks.mjs in Go.
package checks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

const watched = "test://watched-resource"

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

type run struct {
	*Options
	Client
	connect Connect
}

type args = map[string]any

var all = []struct {
	name string
	run  func(ctx context.Context, r run) error
}{
	{"tools", tools}, {"content", content}, {"progress", progress}, {"parallel", parallel}, {"cancellation", cancellation},
	{"sampling", sampling}, {"elicitation", elicitation}, {"roots", roots}, {"subscriptions", subscriptions},
	{"changes", changes}, {"logging", logging}, {"isolation", isolation},
}

// Main runs all checks with the program's arguments and prints what failed, as one line
// of JSON: PROGRAM URL REVISION NAME
func Main(connect Connect) {
	o := &Options{URL: os.Args[1], Revision: os.Args[2], Name: os.Args[3], Sampling: true, Elicitation: true, Roots: true}
	results := map[string]string{}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := connect(ctx, o)
	switch {
	case err != nil:
		results["connect"] = err.Error()
	case c.Version() != o.Revision:
		results["connect"] = "the version is " + c.Version()
	default:
		results["connect"] = ""
	}
	for _, check := range all {
		if err != nil {
			break
		}
		results[check.name] = attempt(ctx, check.run, run{o, c, connect})
	}
	if c != nil {
		c.Close()
	}
	b, err := json.Marshal(results)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
}

func attempt(ctx context.Context, check func(context.Context, run) error, r run) string {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- check(ctx, r) }()
	select {
	case err := <-done:
		if err != nil {
			return err.Error()
		}
		return ""
	case <-time.After(45 * time.Second):
		return "not within 45 s"
	}
}

func eventually(what string, check func() bool) error {
	for range 200 {
		if check() {
			return nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("not within 5 s: %s", what)
}

func differ(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("%s: got %v, want %v", what, got, want)
}

// noted reports whether a process of a server has noted a line.
func noted(line string) bool {
	b, _ := os.ReadFile(filepath.Join(os.Getenv("FIXTURE_NOTES"), "notes"))
	return slices.Contains(strings.Split(string(b), "\n"), line)
}

func tools(ctx context.Context, r run) error {
	list, err := r.Tools(ctx)
	if err != nil {
		return err
	}
	want := args{"type": "object", "properties": args{"text": args{"type": "string", "description": "The text"}}, "required": []any{"text"}}
	if err := differ("schema of echo", list["echo"], want); err != nil {
		return err
	}
	const s = "Zeichen: ä € 😀 \u2028 <&>"
	got, err := r.Call(ctx, "echo", args{"text": s}, nil)
	if err != nil {
		return err
	}
	if err := differ("echo", got, Result{Text: s, Structured: args{"text": s}}); err != nil {
		return err
	}
	if got, err := r.Call(ctx, "test_error_handling", args{}, nil); err != nil || !got.IsError {
		return fmt.Errorf("a tool that fails: %+v, %v", got, err)
	}
	if got, err := r.Call(ctx, "no such tool", args{}, nil); err == nil && !got.IsError {
		return fmt.Errorf("an unknown tool: %+v", got)
	}
	return nil
}

func content(ctx context.Context, r run) error {
	prompts, err1 := r.Prompts(ctx)
	prompt, err2 := r.Prompt(ctx, "test_prompt_with_arguments", map[string]string{"arg1": "a", "arg2": "b"})
	resources, err3 := r.Resources(ctx)
	templates, err4 := r.Templates(ctx)
	text, err5 := r.Read(ctx, "test://static-text")
	filled, err6 := r.Read(ctx, "test://template/7/data")
	words, err7 := r.Complete(ctx, "test_prompt_with_arguments", "arg1", "par")
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		return err
	}
	_, missing := r.Read(ctx, "test://missing")
	if missing == nil {
		return errors.New("a missing resource can be read")
	}
	return errors.Join(
		differ("prompts", len(prompts), 5), differ("prompt", prompt, "Prompt with arguments: arg1='a', arg2='b'"),
		differ("resources", len(resources), 3), differ("templates", len(templates), 1),
		differ("text", text, "This is the content of the static text resource."), differ("template", strings.Contains(filled, `"id":"7"`), true),
		differ("completions", words, []string{"paris", "park", "party"}))
}

// slow calls the tool slow and checks its progress, which counts from 1: the fleet's own,
// while a call waits for a replica, is less. SDKs may pass progress on later than the
// result, and in another order.
func slow(ctx context.Context, c Client, key string, steps, ms int) error {
	var mu sync.Mutex
	var seen [][2]float64
	got, err := c.Call(ctx, "slow", args{"key": key, "steps": steps, "ms": ms}, func(value, total float64) {
		mu.Lock()
		defer mu.Unlock()
		if value >= 1 {
			seen = append(seen, [2]float64{value, total})
		}
	})
	if err != nil {
		return err
	}
	if err := differ("slow", got.Text, "done "+key); err != nil {
		return err
	}
	var want [][2]float64
	for n := range steps {
		want = append(want, [2]float64{float64(n + 1), float64(steps)})
	}
	_ = eventually("all progress", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) >= steps
	})
	mu.Lock()
	defer mu.Unlock()
	slices.SortFunc(seen, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
	return differ("progress of "+key, seen, want)
}

func progress(ctx context.Context, r run) error { return slow(ctx, r, r.Name+"-progress", 5, 50) }

func parallel(ctx context.Context, r run) error {
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = slow(ctx, r, fmt.Sprintf("%s-parallel-%d", r.Name, i), i+1, 30) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func cancellation(ctx context.Context, r run) error {
	if r.NoCancel {
		return errSkip
	}
	key := r.Name + "-cancelled"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if got, err := r.Call(ctx, "slow", args{"key": key, "steps": 200, "ms": 100}, func(value, _ float64) {
		if value >= 1 {
			cancel()
		}
	}); err == nil {
		return fmt.Errorf("the cancelled call has a result: %+v", got)
	}
	return eventually("the server knows that the call was cancelled", func() bool { return noted("cancelled " + key) })
}

// ask calls the tool ask, and decodes the client's answer.
func ask(ctx context.Context, c Client, what, text string) (map[string]any, error) {
	got, err := c.Call(ctx, "ask", args{"what": what, "text": text}, nil)
	if err != nil {
		return nil, err
	}
	var answer map[string]any
	if err := json.Unmarshal([]byte(got.Text), &answer); err != nil {
		return nil, fmt.Errorf("answer %s: %w", got.Text, err)
	}
	return answer, nil
}

func asked(ctx context.Context, r run, text string) error {
	answer, err := ask(ctx, r, "sampling", text)
	if err != nil {
		return err
	}
	message, _ := answer["content"].(map[string]any)
	return differ("sampling", message["text"], any(r.Sampled(text)))
}

func sampling(ctx context.Context, r run) error { return asked(ctx, r, "hello") }

func filledIn(ctx context.Context, r run, text string) error {
	answer, err := ask(ctx, r, "elicitation", text)
	if err != nil {
		return err
	}
	return differ("elicitation", answer["content"], any(r.Filled(text)))
}

func elicitation(ctx context.Context, r run) error {
	if err := filledIn(ctx, r, "hello"); err != nil {
		return err
	}
	got, err := r.Call(ctx, "test_input_required_result_multiple_inputs", args{}, nil)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(got.Text, r.Sampled("Generate a greeting")) {
		return fmt.Errorf("three questions at once: %+v", got)
	}
	return nil
}

func rooted(ctx context.Context, c Client, want string) error {
	answer, err := ask(ctx, c, "roots", "")
	if err != nil {
		return err
	}
	list, _ := answer["roots"].([]any)
	if len(list) != 1 {
		return fmt.Errorf("roots: %v", answer)
	}
	return differ("root", list[0].(map[string]any)["uri"], any(want))
}

func roots(ctx context.Context, r run) error { return rooted(ctx, r, r.Root()) }

func touch(ctx context.Context, r run, uri string) error {
	_, err := r.Call(ctx, "touch", args{"uri": uri}, nil)
	return err
}

func subscriptions(ctx context.Context, r run) error {
	unsubscribe, err := r.Subscribe(ctx, watched)
	if err != nil {
		return err
	}
	if err := errors.Join(touch(ctx, r, "test://static-text"), touch(ctx, r, watched)); err != nil {
		return err
	}
	updated := func() []string { return recorded(r.Options, &r.updated) }
	if err := eventually("the resource's update arrives", func() bool { return len(updated()) > 0 }); err != nil {
		return err
	}
	if err := differ("updated", slices.Compact(updated()), []string{watched}); err != nil {
		return err
	}
	if err := unsubscribe(); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	n := len(updated())
	if err := touch(ctx, r, watched); err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	return differ("updates after the end of the subscription", updated()[n:], []string{})
}

func changes(ctx context.Context, r run) error {
	stop, err := r.Listen(ctx)
	if err != nil {
		return err
	}
	defer stop()
	changed := func(kind string) func() bool {
		return func() bool { return slices.Contains(recorded(r.Options, &r.changed), kind) }
	}
	for _, kind := range []string{"tool", "prompt"} {
		if _, err := r.Call(ctx, "test_trigger_"+kind+"_change", args{}, nil); err != nil {
			return err
		}
		if err := eventually("the change of "+kind+"s is announced", changed(kind+"s")); err != nil {
			return err
		}
	}
	return nil
}

func logging(ctx context.Context, r run) error {
	if err := r.SetLevel(ctx, "warning"); err != nil {
		return err
	}
	for _, level := range []string{"info", "error"} {
		if _, err := r.Call(ctx, "log", args{"level": level, "data": r.Name + " " + level}, nil); err != nil {
			return err
		}
	}
	logged := func() []any { return recorded(r.Options, &r.logged) }
	if err := eventually("the log message arrives", func() bool { return len(logged()) > 0 }); err != nil {
		return err
	}
	return differ("log", logged(), []any{r.Name + " error"})
}

// isolation checks that another client without these capabilities, which works at the
// same time, gets none of the client's requests, and the other way round.
func isolation(ctx context.Context, r run) error {
	o := &Options{URL: r.URL, Revision: r.Revision, Name: r.Name + "-other", Roots: true}
	other, err := r.connect(ctx, o)
	if err != nil {
		return err
	}
	defer other.Close()
	var mine, others error
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < 3 && mine == nil; i++ {
			mine = errors.Join(asked(ctx, r, fmt.Sprint(i)), filledIn(ctx, r, fmt.Sprint(i)))
		}
	})
	wg.Go(func() {
		for i := 0; i < 6 && others == nil; i++ {
			others = errors.Join(rooted(ctx, other, o.Root()), slow(ctx, other, o.Name, 2, 5))
		}
	})
	wg.Wait()
	return errors.Join(mine, others, differ("requests to the other client", recorded(o, &o.stray), []string(nil)),
		differ("log messages to the other client", recorded(o, &o.logged), []any(nil)))
}
