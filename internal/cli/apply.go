package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

type applyOptions struct {
	waitFlags
	file   string
	prune  bool
	retry  bool
	dryRun bool
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply FILE|-",
		Short: "Deploy the servers of a fleet file",
		Long: `Deploy the servers and gateways of a fleet file, all at once or not at all. Those that the file does not list stay as they
are; with --prune they are removed. Variables in the file are taken from the environment of this command.
If somebody else changes the fleet after the plan was made, nothing is applied (exit code 4).

A revision that does not serve is rolled back by the fleet. Applying the same spec again then changes nothing but counts
and limits, and says so; with --retry it is rolled out again, as a new revision.

--wait waits until the revisions of the file are rolled out. Those that have been rolled back, or that wait for mcpfleet
rollout resume, are not waited for: once no others are left, it ends with exit code 1 and the reasons. A server that is idle
counts as ready, since a call starts it.

FILE may also be the file of an MCP client, with mcpServers. A server with an error is then left out with a warning:
if it is deployed already it stays as it is, and the exit code is 1.`,
		Example: `  mcpfleet apply fleet.yaml --wait
  mcpfleet get -o yaml | sed 's/replicas: 3/replicas: 5/' | mcpfleet apply - --dry-run`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			if len(args) == 1 {
				o.file = args[0]
			}
			return a.apply(ctx, client, o)
		}),
	}
	a.rules[cmd] = func(args []string) error {
		switch {
		case len(args) == 0 && o.file == "":
			return errors.New("FILE is missing: pass a fleet file, or - for stdin, as the argument or with --file")
		case len(args) == 1 && a.onCommandLine(cmd, "file"):
			return fmt.Errorf("FILE is given twice: --file %s and %s; apply takes one file", o.file, args[0])
		}
		return nil
	}
	cmd.Flags().StringVarP(&o.file, "file", "f", "", "the same as FILE: a fleet file, YAML or JSON; - is stdin")
	cmd.Flags().BoolVar(&o.prune, "prune", false, "remove the servers and gateways that the file does not list")
	cmd.Flags().BoolVar(&o.retry, "retry", false, "also roll out specs that were rolled back before")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "change nothing, and show what would happen")
	o.waitFlags.flags(cmd, "the servers of the file are ready, and their revisions rolled out")
	return cmd
}

func (a *app) apply(ctx context.Context, client *api.Client, o applyOptions) error {
	f, err := a.readFile(o.file)
	if err != nil {
		return err
	}
	for _, w := range f.Warnings {
		fmt.Fprintf(a.Err, "mcpfleet: warning: %s\n", progress.Printable(w.String()))
	}
	readCtx, cancel := withReadTimeout(ctx)
	defer cancel()
	stored, err := client.List(readCtx, api.ReadOptions{})
	if err != nil {
		return err
	}
	body, err := f.merged(stored, o.prune)
	if err != nil {
		return err
	}
	planned, err := client.Apply(readCtx, body, api.WriteOptions{IfMatch: stored.ETag, Retry: o.retry, DryRun: true})
	if err != nil {
		return applyError(err)
	}
	if o.dryRun {
		if err := a.printDryRun(planned.Changes, planned.Plan, effects(planned.Warnings)); err != nil {
			return err
		}
		return f.incomplete("would be applied")
	}
	if a.output != formatJSON {
		a.printChanges(planned.Changes)
	}
	done, err := client.Apply(ctx, body, api.WriteOptions{IfMatch: stored.ETag, Retry: o.retry})
	if err != nil {
		return applyError(writeError(err))
	}
	if a.output != formatJSON {
		a.printEffects(done.Changes, effects(done.Warnings))
	}
	switch {
	case a.output == formatJSON:
		if err := a.printJSON(done); err != nil {
			return err
		}
	case len(done.Changes) == 0:
		fmt.Fprintln(a.Out, "nothing to change")
	default:
		fmt.Fprintln(a.Out, "applied")
	}
	if o.wait {
		if err := a.untilReady(ctx, client, o.timeout, f.goals(&done)...); err != nil {
			return err
		}
	}
	return f.incomplete("is applied")
}

// goals returns what to wait for after an apply.
func (f *givenFile) goals(done *api.Applied) []goal {
	refused := effects(done.Warnings)
	var out []goal
	for _, name := range f.Names() {
		g := goal{server: name}
		for _, s := range done.Servers {
			if s.Name == name {
				g = goalOf(&s, slices.ContainsFunc(refused, func(w api.FieldError) bool { return w.Path == "servers."+string(name) }))
			}
		}
		out = append(out, g)
	}
	return out
}

// applyError explains the refusal of an apply.
func applyError(err error) error {
	if isCode(err, api.CodePrecondition) {
		return fmt.Errorf("nothing was applied, because somebody changed the fleet meanwhile; check it and try again: %w", err)
	}
	return explain(err)
}

// givenFile is the fleet file of the user.
type givenFile struct {
	*fleetfile.File
}

// incomplete returns an error if servers of a client's file are left out. The
// warnings say why.
func (f *givenFile) incomplete(done string) error {
	if len(f.Broken) == 0 {
		return nil
	}
	names := make([]string, len(f.Broken))
	for i, name := range f.Broken {
		names[i] = string(name)
	}
	return fmt.Errorf("the file %s without the servers that have errors: %s", done, strings.Join(names, ", "))
}

func (a *app) readFile(path string) (*givenFile, error) {
	var data []byte
	var err error
	name := path
	if path == "-" {
		name = "stdin"
		data, err = io.ReadAll(a.In)
	} else {
		// Mounts are relative to the file. They become absolute here, since
		// workers run in other directories.
		if path, err = filepath.Abs(path); err == nil {
			data, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the fleet file: %w", err)
	}
	if file, ok := fileFromGet(data); ok {
		f, err := fleetfile.ParseLiteral(file, fleetfile.Options{Filename: name})
		if err != nil {
			return nil, err
		}
		return &givenFile{f}, nil
	}
	f, err := fleetfile.Parse(data, fleetfile.OnDisk(name, a.Lookup))
	if err != nil {
		return nil, err
	}
	return &givenFile{f}, nil
}

// fileFromGet returns the fleet file for the output of get -o json, of all
// servers or of one. It returns false if data is something else.
func fileFromGet(data []byte) ([]byte, bool) {
	var shown struct {
		api.Servers
		Name fleet.ServerName `json:"name"`
		Spec json.RawMessage  `json:"spec"`
	}
	if json.Unmarshal(data, &shown) != nil {
		return nil, false
	}
	servers := shown.Servers.Servers
	if servers == nil && shown.Name != "" && shown.Spec != nil {
		servers = []api.Server{{Name: shown.Name, Spec: shown.Spec}}
	}
	if servers == nil {
		return nil, false
	}
	file := fileJSON{DefaultServer: shown.DefaultServer, Gateways: shown.Gateways, Servers: map[fleet.ServerName]json.RawMessage{}}
	for _, s := range servers {
		if s.Name == "" || s.Spec == nil {
			return nil, false
		}
		if deployed(&s) {
			file.Servers[s.Name] = s.Spec
		}
	}
	out, err := json.Marshal(file)
	return out, err == nil
}

// fileJSON is the JSON form of a fleet file.
type fileJSON struct {
	DefaultServer fleet.ServerName                      `json:"default_server,omitempty"`
	Servers       map[fleet.ServerName]json.RawMessage  `json:"servers"`
	Gateways      map[fleet.GatewayName]json.RawMessage `json:"gateways,omitempty"`
}

// merged returns the complete fleet file to send: the servers and gateways of the
// file, and the stored ones that it does not list, with masked secrets. With prune the
// latter are left out, except servers that the file lists with an error.
func (f *givenFile) merged(stored api.Servers, prune bool) ([]byte, error) {
	body, err := fleetfile.Encode(f.File)
	if err != nil || prune && len(f.Broken) == 0 {
		return body, err
	}
	var whole fileJSON
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, err
	}
	for _, s := range stored.Servers {
		if _, listed := whole.Servers[s.Name]; !listed && deployed(&s) && (!prune || slices.Contains(f.Broken, s.Name)) {
			whole.Servers[s.Name] = s.Spec
		}
	}
	if f.DefaultServer == "" && !prune && len(stored.Servers) > 0 && len(whole.Servers) > 1 { // a lone server is the default anyway
		whole.DefaultServer = stored.DefaultServer
	}
	for name, g := range stored.Gateways {
		if _, listed := whole.Gateways[name]; listed || prune {
			continue
		}
		if whole.Gateways == nil {
			whole.Gateways = make(map[fleet.GatewayName]json.RawMessage)
		}
		whole.Gateways[name] = g
	}
	return json.Marshal(whole)
}

// deployed reports whether a server is desired, rather than being deleted.
func deployed(s *api.Server) bool { return s.State != fleet.StateDeleting }
