package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) toolsCommand() *cobra.Command {
	var gateway string
	cmd := &cobra.Command{
		Use:               "tools [SERVER]",
		Short:             "List the tools of one server, of a gateway, or of all servers",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := context.WithTimeout(ctx, readTimeout)
			defer cancel()
			tools, err := client.Tools(ctx, viewOf(args, gateway).scope())
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.printJSON(tools)
			}
			t := newTable(a.Out, "TOOL", "SERVER", "DESCRIPTION")
			for _, tool := range tools.Tools {
				description := ""
				if tool.Description != nil {
					description, _, _ = strings.Cut(strings.TrimSpace(*tool.Description), "\n")
				}
				t.row(tool.Name, tool.Server, description)
			}
			if err := t.flush(); err != nil {
				return err
			}
			for _, u := range tools.Unavailable {
				fmt.Fprintf(a.Err, "mcpfleet: the tools of %s are not known yet: %s\n", u.Server, progress.Printable(u.Reason))
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&gateway, "gateway", "", "list the tools of this gateway, by its names")
	a.rules[cmd] = func(args []string) error { return viewOf(args, gateway).check() }
	return cmd
}

func (a *app) callCommand() *cobra.Command {
	var gateway string
	cmd := &cobra.Command{
		Use:   "call SERVER TOOL [JSON]",
		Short: "Call a tool; the arguments are a JSON object, or - for stdin",
		Example: `  mcpfleet call demo echo '{"text":"hello"}'
  mcpfleet call --gateway office demo__echo '{"text":"hello"}'
  jq -n '{text: "hello"}' | mcpfleet call demo echo -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if gateway != "" {
				return nil // the rule below
			}
			return cobra.RangeArgs(2, 3)(cmd, args)
		},
		ValidArgsFunction: a.completeServer(true),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			at := viewOf(nil, gateway)
			if gateway == "" {
				at, args = viewOf(args, ""), args[1:]
			}
			text := "{}"
			if len(args) == 2 {
				text = args[1]
			}
			if text == "-" {
				b, err := io.ReadAll(a.In)
				if err != nil {
					return fmt.Errorf("read arguments: %w", err)
				}
				text = string(b)
			}
			toolArgs, err := argumentsOf(text)
			if err != nil {
				a.usageOK = false
				return err
			}
			result, err := client.Call(ctx, at.scope(), api.CallRequest{ToolName: args[0], ToolArgs: toolArgs})
			if err != nil {
				return err
			}
			return a.printResult(result)
		}),
	}
	cmd.Flags().StringVar(&gateway, "gateway", "", "call a tool of this gateway, by its name there, and pass no SERVER")
	a.rules[cmd] = func(args []string) error {
		const usage = "the command is: mcpfleet call --gateway NAME TOOL [JSON]"
		switch {
		case gateway == "":
			if len(args) > 1 && strings.HasPrefix(args[1], "{") { // not the name of a tool
				return fmt.Errorf("SERVER is missing before the tool %q; the command is: mcpfleet call SERVER TOOL [JSON]", args[0])
			}
			return nil
		case len(args) == 0:
			return errors.New("TOOL is missing; " + usage)
		case len(args) > 2, len(args) == 2 && args[1] != "-" && !isObject(args[1]):
			return errors.New("pass SERVER or --gateway, not both; " + usage)
		}
		return viewOf(nil, gateway).check()
	}
	return cmd
}

func isObject(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "{") }

// argumentsOf checks that text is a JSON object. It returns it unchanged, so
// that numbers keep their digits.
func argumentsOf(text string) (json.RawMessage, error) {
	raw := json.RawMessage(strings.TrimSpace(text))
	var valid json.RawMessage
	if err := json.Unmarshal(raw, &valid); err != nil {
		return nil, fmt.Errorf("the arguments must be a JSON object: %w", err)
	}
	if raw[0] != '{' {
		return nil, errors.New("the arguments must be a JSON object")
	}
	return raw, nil
}

// printResult prints a CallToolResult. It returns an error if the result
// reports one.
func (a *app) printResult(raw json.RawMessage) error {
	var result struct {
		IsError bool              `json:"isError"`
		Content []json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("decode the result: %w", err)
	}
	if a.output == formatJSON {
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return fmt.Errorf("decode the result: %w", err)
		}
		b.WriteByte('\n')
		if _, err := b.WriteTo(a.Out); err != nil {
			return err
		}
		if result.IsError {
			return errors.New("the tool reports an error")
		}
		return nil
	}
	var lines []string
	for _, block := range result.Content {
		var content struct {
			Type string  `json:"type"`
			Text *string `json:"text"`
		}
		if json.Unmarshal(block, &content) == nil && content.Type == "text" && content.Text != nil {
			lines = append(lines, *content.Text)
		} else {
			lines = append(lines, string(block))
		}
	}
	text := strings.Join(lines, "\n")
	if result.IsError {
		return fmt.Errorf("the tool reports an error: %s", text)
	}
	_, err := fmt.Fprintln(a.Out, text)
	return err
}

func toolNames(ctx context.Context, client *api.Client, server string) []string {
	tools, err := client.Tools(ctx, fleet.Scope(server))
	if err != nil {
		return nil
	}
	var names []string
	for _, t := range tools.Tools {
		names = append(names, t.Name)
	}
	return names
}
