package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get [SERVER]",
		Short: "Show what is deployed",
		Long: `Show what is deployed, with secrets masked. With -o yaml it is a fleet file for apply, which takes what -o json prints, too:
a masked secret that is applied keeps the value that is stored.`,
		Annotations:       map[string]string{moreFormats: formatYAML},
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := reading(ctx)
			defer cancel()
			if len(args) == 1 {
				s, err := client.GetServer(ctx, fleet.ServerName(args[0]), api.ReadOptions{})
				if err != nil {
					return err
				}
				if a.output == formatJSON {
					return a.json(s)
				}
				return a.showServers(api.Servers{Servers: []api.Server{s}})
			}
			servers, err := client.List(ctx, api.ReadOptions{})
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.json(servers)
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
		_ = json.Unmarshal(s.Spec, &spec) // shows nothing of what it does not know
		runs, mark := spec.Image, ""
		if runs == "" {
			runs = strings.Join(spec.Command, " ")
		}
		if s.Name == servers.DefaultServer {
			mark = "yes"
		}
		t.row(s.Name, s.State, fmt.Sprintf("%d/%d", s.Ready, s.Desired), revisionText(&s), runs, mark)
	}
	return t.flush()
}

// revisionText is a server's revision, and where it comes from while it is
// being rolled out.
func revisionText(s *api.Server) string {
	switch {
	case s.Rollout != nil && s.Rollout.From == s.Rollout.To:
		return fmt.Sprintf("%d (restarting)", s.Revision)
	case s.Rollout != nil && s.Rollout.From != 0:
		return fmt.Sprintf("%d -> %d", s.Rollout.From, s.Rollout.To)
	}
	return strconv.FormatUint(uint64(s.Revision), 10)
}

// fleetFile prints servers as a fleet file in YAML, their keys in the API's
// order. What is not meant as a variable must not become one.
func (a *app) fleetFile(servers api.Servers) error {
	list := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range servers.Servers {
		if !deployed(&s) {
			continue
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(s.Spec, &doc); err != nil || len(doc.Content) != 1 { // JSON is YAML
			return fmt.Errorf("spec of %s: %w", s.Name, err)
		}
		plain(doc.Content[0])
		list.Content = append(list.Content, text(string(s.Name)), doc.Content[0])
	}
	if len(list.Content) == 0 {
		list.Style = yaml.FlowStyle
	}
	root := &yaml.Node{Kind: yaml.MappingNode}
	if servers.DefaultServer != "" {
		root.Content = append(root.Content, text("default_server"), text(string(servers.DefaultServer)))
	}
	root.Content = append(root.Content, text("servers"), list)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(root), enc.Close()); err != nil {
		return fmt.Errorf("encode the fleet file: %w", err)
	}
	_, err := b.WriteTo(a.Out)
	return err
}

// text is a string that every reader of YAML takes for one: "yes" and "on" are
// quoted.
func text(s string) *yaml.Node {
	n := new(yaml.Node)
	if err := n.Encode(s); err != nil {
		n.SetString(s)
	}
	return n
}

// plain drops the style that JSON has. Keys have no variables.
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

// change makes the RunE of a command that changes one server and can wait for
// it.
func (a *app) change(w *waiting, o *api.WriteOptions, do func(ctx context.Context, client *api.Client, args []string) (api.Written, error)) func(*cobra.Command, []string) error {
	return a.asking(func(ctx context.Context, client *api.Client, args []string) error {
		done, err := do(ctx, client, args)
		if err != nil {
			if o.DryRun {
				return explain(err)
			}
			return explain(written(err))
		}
		if err := a.outcome(done, done.Changes, done.Effect); err != nil || !w.wait || o.DryRun {
			return err
		}
		return a.untilReady(ctx, client, w.timeout, fleet.ServerName(args[0]))
	})
}

func dryRunFlag(cmd *cobra.Command, o *api.WriteOptions) {
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "change nothing, and tell what would happen")
}

func (a *app) scaleCommand() *cobra.Command {
	var w waiting
	var o api.WriteOptions
	cmd := &cobra.Command{
		Use:               "scale SERVER N",
		Short:             "Set how many replicas a server shall have; 0 stops it",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completing(false),
	}
	cmd.RunE = a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return api.Written{}, err
		}
		return client.Scale(ctx, fleet.ServerName(args[0]), n, o)
	})
	a.rules[cmd] = func(args []string) error {
		if len(args) < 2 {
			return nil
		}
		if n, err := strconv.Atoi(args[1]); err != nil || n < 0 {
			return fmt.Errorf("the number of replicas must be 0 or more, not %q", args[1])
		}
		return nil
	}
	dryRunFlag(cmd, &o)
	w.flags(cmd, "the server has as many ready")
	return cmd
}

func (a *app) restartCommand() *cobra.Command {
	var w waiting
	o := api.WriteOptions{IdempotencyKey: rand.Text()}
	cmd := &cobra.Command{
		Use:               "restart SERVER",
		Short:             "Replace all replicas of a server by new ones, new before old",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
			return client.Restart(ctx, fleet.ServerName(args[0]), o)
		}),
	}
	dryRunFlag(cmd, &o)
	w.flags(cmd, "all replicas are new and ready")
	return cmd
}

func (a *app) rollbackCommand() *cobra.Command {
	var w waiting
	var to uint64
	o := api.WriteOptions{IdempotencyKey: rand.Text()}
	cmd := &cobra.Command{
		Use:               "rollback SERVER",
		Short:             "Return a server to an earlier revision; counts and limits stay",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.change(&w, &o, func(ctx context.Context, client *api.Client, args []string) (api.Written, error) {
			return client.Rollback(ctx, fleet.ServerName(args[0]), fleet.Revision(to), o)
		}),
	}
	cmd.Flags().Uint64Var(&to, "to", 0, "number of the revision, as revisions shows it; 0 for the newest before the present one")
	dryRunFlag(cmd, &o)
	w.flags(cmd, "the revision is rolled out and ready")
	return cmd
}

func (a *app) revisionsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "revisions SERVER",
		Short:             "Show the kept revisions of a server, and what changed with each",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			ctx, cancel := reading(ctx)
			defer cancel()
			revisions, err := client.Revisions(ctx, fleet.ServerName(args[0]), api.ReadOptions{})
			if err != nil {
				return err
			}
			if a.output == formatJSON {
				return a.json(revisions)
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
				t.row(r.Revision, age(&r.CreatedAt), strings.Join(status, ", "), first)
				for _, more := range r.Changes[min(1, len(r.Changes)):] {
					t.below(difference(more))
				}
			}
			return t.flush()
		}),
	}
}

func (a *app) deleteCommand() *cobra.Command {
	var w waiting
	var o api.WriteOptions
	cmd := &cobra.Command{
		Use:               "delete SERVER...",
		Short:             "Remove servers",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completingAll(),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			return a.remove(ctx, client, args, w, o)
		}),
	}
	dryRunFlag(cmd, &o)
	w.flags(cmd, "nothing of them runs any more")
	return cmd
}

// remove deletes servers one after the other, once it is known that all are
// there.
func (a *app) remove(ctx context.Context, client *api.Client, args []string, w waiting, o api.WriteOptions) error {
	asking, cancel := reading(ctx)
	defer cancel()
	servers, err := client.Servers(asking)
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
			err = written(err)
			if i > 0 && !o.DryRun {
				err = fmt.Errorf("deleted so far: %v: %w", names[:i], err)
			}
			return err
		}
		all = append(all, done)
		changes = append(changes, done.Changes...)
		sum.Plan = append(sum.Plan, done.Plan...)
	}
	if err := a.outcome(map[string]any{"servers": all}, changes, sum); err != nil || !w.wait || o.DryRun {
		return err
	}
	return a.untilGone(ctx, client, w.timeout, names...)
}
