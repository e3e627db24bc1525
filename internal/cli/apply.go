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
	waiting
	file   string
	prune  bool
	dryRun bool
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use:   "apply FILE|-",
		Short: "Make the servers of a fleet file what is deployed",
		Long: `Make the servers of a fleet file what is deployed, all at once or not at all. Servers that the file does not list stay as they are;
with --prune they go. A file in the mcpServers form of MCP clients will do; a server in it that has an error is left out with a warning, stays as it
is where it is deployed, and makes the exit code 1. Variables in the file are those of this command's environment.
When somebody else changes the fleet after the plan was made, nothing is applied (exit code 4).`,
		Example: `  mcpfleet apply fleet.yaml --wait
  mcpfleet get -o yaml | sed 's/replicas: 3/replicas: 5/' | mcpfleet apply - --dry-run`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			if len(args) == 1 {
				o.file = args[0]
			}
			return a.apply(ctx, client, o)
		}),
	}
	a.rules[cmd] = func(args []string) error {
		switch {
		case len(args) == 0 && o.file == "":
			return errors.New("FILE is missing: give a fleet file, or - for stdin, as the argument or with --file")
		case len(args) == 1 && a.given(cmd, "file"):
			return fmt.Errorf("FILE is given twice: --file %s and %s; apply takes one file", o.file, args[0])
		}
		return nil
	}
	cmd.Flags().StringVarP(&o.file, "file", "f", "", "the same as FILE: a fleet file, YAML or JSON; - is stdin")
	cmd.Flags().BoolVar(&o.prune, "prune", false, "remove the servers that the file does not list")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "change nothing, and tell what would happen")
	o.waiting.flags(cmd, "the servers of the file are ready")
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
	asking, cancel := reading(ctx)
	defer cancel()
	stored, err := client.List(asking, api.ReadOptions{})
	if err != nil {
		return err
	}
	body, err := f.wanted(stored, o.prune)
	if err != nil {
		return err
	}
	planned, err := client.Apply(asking, body, api.WriteOptions{IfMatch: stored.ETag, DryRun: true})
	if err != nil {
		return applyError(err)
	}
	if o.dryRun {
		if err := a.outcome(nil, planned.Changes, api.Effect{DryRun: true, Plan: planned.Plan}); err != nil {
			return err
		}
		return f.incomplete("would be applied")
	}
	if a.output != formatJSON {
		a.changes(planned.Changes)
	}
	done, err := client.Apply(ctx, body, api.WriteOptions{IfMatch: stored.ETag})
	if err != nil {
		return applyError(written(err))
	}
	switch {
	case a.output == formatJSON:
		if err := a.json(done); err != nil {
			return err
		}
	case len(done.Changes) == 0:
		fmt.Fprintln(a.Out, "nothing to change")
	default:
		fmt.Fprintln(a.Out, "applied")
	}
	if o.wait {
		if err := a.untilReady(ctx, client, o.timeout, f.Names()...); err != nil {
			return err
		}
	}
	return f.incomplete("is applied")
}

// applyError says what a refused plan means.
func applyError(err error) error {
	if isCode(err, api.CodePrecondition) {
		return fmt.Errorf("the fleet was changed meanwhile, nothing was applied; look and try again: %w", err)
	}
	return explain(err)
}

// givenFile is a fleet file as a user gave it.
type givenFile struct {
	*fleetfile.File
}

// incomplete is the error of a client's file of which not all could be applied.
// The warnings have said what is wrong.
func (f *givenFile) incomplete(done string) error {
	if len(f.Broken) == 0 {
		return nil
	}
	names := make([]string, len(f.Broken))
	for i, name := range f.Broken {
		names[i] = string(name)
	}
	return fmt.Errorf("the file %s without what is wrong in it: %s", done, strings.Join(names, ", "))
}

func (a *app) readFile(path string) (*givenFile, error) {
	var data []byte
	var err error
	name := path
	if path == "-" {
		name = "stdin"
		data, err = io.ReadAll(a.In)
	} else {
		// Mounts are relative to it, and made absolute: workers are elsewhere.
		if path, err = filepath.Abs(path); err == nil {
			data, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the fleet file: %w", err)
	}
	if file, ok := shownFile(data); ok {
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

// shownFile makes a fleet file of what get -o json has printed, of all servers
// or of one. It reports whether data is that.
func shownFile(data []byte) ([]byte, bool) {
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
	file := wholeFile{DefaultServer: shown.DefaultServer, Servers: map[fleet.ServerName]json.RawMessage{}}
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

// wholeFile is a fleet file in JSON.
type wholeFile struct {
	DefaultServer fleet.ServerName                     `json:"default_server,omitempty"`
	Servers       map[fleet.ServerName]json.RawMessage `json:"servers"`
}

// wanted returns the whole fleet file that makes the file deployed: with what
// is stored beside it, secrets masked, unless that shall go. What the file has
// in a broken form stays as it is.
func (f *givenFile) wanted(stored api.Servers, prune bool) ([]byte, error) {
	body, err := fleetfile.Encode(f.File)
	if err != nil || prune && len(f.Broken) == 0 {
		return body, err
	}
	var whole wholeFile
	if err := json.Unmarshal(body, &whole); err != nil {
		return nil, err
	}
	for _, s := range stored.Servers {
		if _, listed := whole.Servers[s.Name]; !listed && deployed(&s) && (!prune || slices.Contains(f.Broken, s.Name)) {
			whole.Servers[s.Name] = s.Spec
		}
	}
	if f.DefaultServer == "" && !prune && len(stored.Servers) > 0 && len(whole.Servers) > 1 { // a lone one is it anyway
		whole.DefaultServer = stored.DefaultServer
	}
	return json.Marshal(whole)
}

// deployed tells whether a server is desired, and not only about to be gone.
func deployed(s *api.Server) bool { return s.State != fleet.StateDeleting }
