package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	patience           = 30 * time.Second // with questions that are answered from memory
	completionPatience = 2 * time.Second
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status [SERVER]",
		Short:             "Show the servers and their replicas",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			var out struct {
				api.Servers
				api.Replicas
			}
			servers, err := client.Servers(ctx)
			if err != nil {
				return err
			}
			replicas, err := client.Replicas(ctx)
			if err != nil {
				return err
			}
			out.Servers.Servers, out.Replicas.Replicas = []api.Server{}, []api.Replica{}
			for _, s := range servers {
				if len(args) == 0 || string(s.Name) == args[0] {
					out.Servers.Servers = append(out.Servers.Servers, s)
				}
			}
			for _, r := range replicas {
				if len(args) == 0 || string(r.Server) == args[0] {
					out.Replicas.Replicas = append(out.Replicas.Replicas, r)
				}
			}
			if len(args) == 1 && len(out.Servers.Servers) == 0 {
				return fmt.Errorf("there is no server named %q", args[0])
			}
			if a.output == formatJSON {
				return a.json(out)
			}
			return a.statusTable(out.Servers.Servers, out.Replicas.Replicas)
		}),
	}
}

func (a *app) statusTable(servers []api.Server, replicas []api.Replica) error {
	t := newTable(a.Out, "SERVER", "STATE", "READY", "RESTARTS", "REVISION", "REASON")
	for _, s := range servers {
		t.row(s.Name, s.State, fmt.Sprintf("%d/%d", s.Ready, s.Desired), s.Restarts, s.Revision, s.Reason)
	}
	if err := t.flush(); err != nil || len(replicas) == 0 {
		return err
	}
	fmt.Fprintln(a.Out)
	t = newTable(a.Out, "REPLICA", "NODE", "PHASE", "ONGOING", "CALLS", "AGE", "REASON")
	for _, r := range replicas {
		t.row(r.ID, r.Node, r.Phase, r.Ongoing, r.TotalCalls, age(r.StartedAt), r.Reason)
	}
	return t.flush()
}

func (a *app) nodesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "nodes",
		Short: "Show the controllers and workers",
		Args:  cobra.NoArgs,
		RunE: a.asking(func(ctx context.Context, client *api.Client, _ []string) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			nodes, err := client.Nodes(ctx)
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.json(api.Nodes{Nodes: nodes})
			}
			t := newTable(a.Out, "NODE", "ROLE", "STATE", "RUNTIME", "ZONE", "REPLICAS", "CPUS", "MEMORY", "ADDRESS", "PID")
			for _, n := range nodes {
				address := n.GRPC
				if address == "" {
					address = n.HTTP
				}
				t.row(n.Name, n.Role, n.State, n.Runtime, n.Zone, n.Replicas,
					used(n.Allocated.CPUs, n.Capacity.CPUs, func(f float64) string { return fmt.Sprintf("%g", f) }),
					used(n.Allocated.Memory, n.Capacity.Memory, bytesText), address, n.PID)
			}
			return t.flush()
		}),
	}
}

func (a *app) toolsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "tools [SERVER]",
		Short:             "List the tools of one server, or of all",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			var server fleet.ServerName
			if len(args) == 1 {
				server = fleet.ServerName(args[0])
			}
			tools, err := client.Tools(ctx, server)
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.json(tools)
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
				fmt.Fprintf(a.Err, "mcpfleet: the tools of %s are not known: %s\n", u.Server, printable(u.Reason))
			}
			return nil
		}),
	}
}

func (a *app) callCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "call SERVER TOOL [JSON]",
		Short: "Call a tool; the arguments are a JSON object, or - for stdin",
		Example: `  mcpfleet call demo echo '{"text":"hello"}'
  jq -n '{text: "hello"}' | mcpfleet call demo echo -`,
		Args:              cobra.RangeArgs(2, 3),
		ValidArgsFunction: a.completing(true),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			text := "{}"
			if len(args) == 3 {
				text = args[2]
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
				a.understood = false
				return err
			}
			result, err := client.Call(ctx, fleet.ServerName(args[0]), api.CallRequest{ToolName: args[1], ToolArgs: toolArgs})
			if err != nil {
				return err
			}
			return a.result(result)
		}),
	}
}

// argumentsOf checks what is surely refused otherwise, but does not change it:
// numbers keep their digits.
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

// result prints a CallToolResult, and returns an error when it is one.
func (a *app) result(raw json.RawMessage) error {
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

func serverNames(ctx context.Context, client *api.Client) []string {
	servers, err := client.Servers(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, s := range servers {
		names = append(names, string(s.Name))
	}
	return names
}

func toolNames(ctx context.Context, client *api.Client, server string) []string {
	tools, err := client.Tools(ctx, fleet.ServerName(server))
	if err != nil {
		return nil
	}
	var names []string
	for _, t := range tools.Tools {
		names = append(names, t.Name)
	}
	return names
}

// table prints aligned columns, one line a row.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, header ...any) *table {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	t.row(header...)
	return t
}

func (t *table) row(cells ...any) {
	for i, c := range cells {
		text := strings.Join(strings.Fields(printable(fmt.Sprint(c))), " ")
		if text == "" {
			text = "-"
		}
		const widest = 160
		if r := []rune(text); len(r) > widest {
			text = string(r[:widest]) + "..."
		}
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, text)
	}
	fmt.Fprintln(t.w)
}

func (t *table) flush() error { return t.w.Flush() }

// printable replaces what would steer a terminal: names and reasons come from
// elsewhere.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

func age(t *time.Time) string {
	if t == nil {
		return ""
	}
	d := time.Since(*t)
	if d > time.Minute {
		return d.Round(time.Minute).String()
	}
	return d.Round(time.Second).String()
}

// used shows what is taken of what there is; a capacity of 0 is not known.
func used[T comparable](allocated, capacity T, text func(T) string) string {
	var zero T
	if capacity == zero {
		return ""
	}
	return text(allocated) + "/" + text(capacity)
}

func bytesText(n int64) string {
	const mib = 1 << 20
	if n >= 10<<30 {
		return fmt.Sprintf("%dGiB", n>>30)
	}
	return fmt.Sprintf("%dMiB", n/mib)
}
