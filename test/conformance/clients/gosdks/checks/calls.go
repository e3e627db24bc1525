package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

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
