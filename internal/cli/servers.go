package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/format"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get [SERVER]",
		Short: "Show the deployed servers",
		Long: `Show the deployed servers, with secrets masked. apply takes the output of -o yaml, which is a fleet file, and that of -o json.
Applying a masked secret keeps the stored value.`,
		Annotations:       map[string]string{moreFormats: formatYAML},
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := withReadTimeout(ctx)
			defer cancel()
			if len(args) == 1 {
				s, err := client.GetServer(ctx, fleet.ServerName(args[0]), api.ReadOptions{})
				if err != nil {
					return err
				}
				if a.output == formatJSON {
					return a.printJSON(s)
				}
				return a.showServers(api.Servers{Servers: []api.Server{s}})
			}
			servers, err := client.List(ctx, api.ReadOptions{})
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.printJSON(servers)
			}
			return a.showServers(servers)
		}),
	}
}

func (a *app) showServers(servers api.Servers) error {
	if a.output == formatYAML {
		return a.fleetFile(servers)
	}
	t := newTable(a.Out, "SERVER", "STATE", "READY", "REVISION", "RUNS", "DEFAULT")
	for _, s := range servers.Servers {
		var spec struct {
			Image   string   `json:"image"`
			Command []string `json:"command"`
		}
		_ = json.Unmarshal(s.Spec, &spec) // an unknown form shows as nothing
		runs, mark := spec.Image, ""
		if runs == "" {
			runs = strings.Join(spec.Command, " ")
		}
		if s.Name == servers.DefaultServer {
			mark = "yes"
		}
		t.row(s.Name, s.State, format.Ready(&s), format.Revision(&s), runs, mark)
	}
	return t.flush()
}

// fleetFile prints servers as a fleet file in YAML, with keys in the order of
// the API. A $ becomes $$, so that apply does not take it for a variable.
func (a *app) fleetFile(servers api.Servers) error {
	list := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range servers.Servers {
		if !deployed(&s) {
			continue
		}
		doc, err := yamlOf(s.Spec)
		if err != nil {
			return fmt.Errorf("spec of %s: %w", s.Name, err)
		}
		list.Content = append(list.Content, text(string(s.Name)), doc)
	}
	if len(list.Content) == 0 {
		list.Style = yaml.FlowStyle
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	if servers.DefaultServer != "" {
		root.Content = append(root.Content, text("default_server"), text(string(servers.DefaultServer)))
	}
	root.Content = append(root.Content, text("servers"), list)
	if len(servers.Gateways) > 0 {
		section := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(servers.Gateways)) {
			doc, err := yamlOf(servers.Gateways[name])
			if err != nil {
				return fmt.Errorf("gateway %s: %w", name, err)
			}
			section.Content = append(section.Content, text(string(name)), doc)
		}
		root.Content = append(root.Content, text("gateways"), section)
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(root), enc.Close()); err != nil {
		return fmt.Errorf("encode the fleet file: %w", err)
	}
	_, err := b.WriteTo(a.Out)
	return err
}

// yamlOf returns a JSON object as plain YAML.
func yamlOf(object []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(object, &doc); err != nil { // JSON is YAML
		return nil, err
	}
	if len(doc.Content) != 1 {
		return nil, errors.New("it is empty")
	}
	plain(doc.Content[0])
	return doc.Content[0], nil
}

// text returns a node for a string that every YAML parser reads as a string:
// words such as "yes" and "on" are quoted.
func text(s string) *yaml.Node {
	n := new(yaml.Node)
	if err := n.Encode(s); err != nil {
		n.SetString(s)
	}
	return n
}

// plain replaces the JSON style of a node by that of plain YAML, and $ by $$ in
// values. Keys cannot have variables.
func plain(n *yaml.Node) {
	n.Style = 0
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		*n = *text(strings.ReplaceAll(n.Value, "$", "$$"))
	case n.Kind != yaml.ScalarNode && len(n.Content) == 0:
		n.Style = yaml.FlowStyle
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			*c = *text(c.Value)
			continue
		}
		plain(c)
	}
}

// change returns the RunE of a command that changes one server and can wait
// until it is ready.
func (a *app) change(w *waitFlags, o *api.WriteOptions, do func(ctx context.Context, client *api.Client, args []string) (api.Written, error)) func(*cobra.Command, []string) error {
	return a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
		done, err := do(ctx, client, args)
		if err != nil {
			if o.DryRun {
				return explain(err)
			}
			return explain(writeError(err))
		}
		if err := a.printOutcome(done, done.Changes, done.Effect, done.Warnings...); err != nil || !w.wait || o.DryRun {
			return err
		}
		return a.untilReady(ctx, client, w.timeout, goal{fleet.ServerName(args[0]), done.Revision})
	})
}

func dryRunFlag(cmd *cobra.Command, o *api.WriteOptions) {
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "change nothing, and show what would happen")
}

func (a *app) restartCommand() *cobra.Command {
	var w waitFlags
	o := api.WriteOptions{IdempotencyKey: rand.Text()}
	cmd := &cobra.Command{
		Use:               "restart SERVER",
		Short:             "Replace all replicas of a server, new before old",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
			return client.Restart(ctx, fleet.ServerName(args[0]), o)
		}),
	}
	dryRunFlag(cmd, &o)
	w.flags(cmd, "all replicas are new and ready")
	return cmd
}

func (a *app) revisionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "revisions SERVER",
		Short:             "Show the kept revisions of a server, and what changed with each",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := withReadTimeout(ctx)
			defer cancel()
			revisions, err := client.Revisions(ctx, fleet.ServerName(args[0]), api.ReadOptions{})
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.printJSON(revisions)
			}
			t := newTable(a.Out, "REVISION", "AGE", "STATUS", "CHANGES")
			for _, r := range revisions.Revisions {
				var status []string
				if r.Current {
					status = append(status, "current")
				}
				if r.Stable {
					status = append(status, "stable")
				}
				first := ""
				if len(r.Changes) > 0 {
					first = difference(r.Changes[0])
				}
				t.row(r.Revision, format.Age(&r.CreatedAt, time.Now()), strings.Join(status, ", "), first)
				for _, more := range r.Changes[min(1, len(r.Changes)):] {
					t.continueRow(difference(more))
				}
			}
			return t.flush()
		}),
	}
}

func (a *app) deleteCommand() *cobra.Command {
	var w waitFlags
	var o api.WriteOptions
	cmd := &cobra.Command{
		Use:               "delete SERVER...",
		Short:             "Remove servers",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeServers(),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			return a.remove(ctx, client, args, w, o)
		}),
	}
	dryRunFlag(cmd, &o)
	w.flags(cmd, "their replicas are gone")
	return cmd
}

// remove deletes servers one after the other, after a check that all exist.
func (a *app) remove(ctx context.Context, client *api.Client, args []string, w waitFlags, o api.WriteOptions) error {
	readCtx, cancel := withReadTimeout(ctx)
	defer cancel()
	servers, err := client.Servers(readCtx)
	if err != nil {
		return err
	}
	var names []fleet.ServerName
	for _, arg := range args {
		name := fleet.ServerName(arg)
		if !slices.ContainsFunc(servers, func(s api.Server) bool { return s.Name == name }) {
			return fmt.Errorf("there is no server named %q; nothing was deleted%s", arg, nearServer(arg, servers))
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var all []api.Written
	sum := api.Effect{DryRun: o.DryRun}
	var changes []api.Change
	for i, name := range names {
		done, err := client.Delete(ctx, name, o)
		if err != nil {
			err = writeError(err)
			if i > 0 && !o.DryRun {
				err = fmt.Errorf("deleted so far: %v: %w", names[:i], err)
			}
			return err
		}
		all = append(all, done)
		changes = append(changes, done.Changes...)
		sum.Plan = append(sum.Plan, done.Plan...)
	}
	if err := a.printOutcome(map[string]any{"servers": all}, changes, sum); err != nil || !w.wait || o.DryRun {
		return err
	}
	return a.untilGone(ctx, client, w.timeout, names...)
}
