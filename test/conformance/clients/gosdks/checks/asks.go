package checks

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

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
