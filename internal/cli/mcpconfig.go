package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/aymanbagabas/go-udiff"
	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/cli/clients"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/datadir"
	"github.com/mcpfleet/mcpfleet/internal/nearest"
)

// configOptions are the flags of mcp-config.
type configOptions struct {
	client, server, gateway, as, file string
	stdio, write, yes                 bool
}

func (a *app) mcpConfigCommand() *cobra.Command {
	var opts configOptions
	cmd := &cobra.Command{
		Use:   "mcp-config",
		Short: "Print the configuration of an MCP client for the fleet, or write it into the client's file",
		Long: `Print the configuration of an MCP client for the fleet: all servers, or one with --server. A client that speaks HTTP gets the URL
of the first controller in --address, and one that does not gets the command mcpfleet connect.

With --write it is added to the client's own file. That shows the difference and asks first, keeps everything else in the file,
comments too, and leaves a copy of the old file next to it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.mcpConfig(&opts) },
	}
	a.rules[cmd] = func([]string) error { return opts.check() }
	flags := cmd.Flags()
	flags.StringVar(&opts.client, "client", "", "client to configure: "+strings.Join(clients.Names(), ", ")+"; without it the form that most clients read")
	flags.StringVar(&opts.server, "server", "", "only this server, with the names of its own tools")
	flags.StringVar(&opts.gateway, "gateway", "", "only this gateway")
	flags.StringVar(&opts.as, "as", "", "name of the entry (default: the server, the gateway, or mcpfleet)")
	flags.StringVar(&opts.file, "file", "", "write this file instead of the user's, such as the file of one project")
	flags.BoolVar(&opts.stdio, "stdio", false, "use mcpfleet connect, which survives the loss of a controller, also if the client speaks HTTP")
	flags.BoolVar(&opts.write, "write", false, "add it to the client's file")
	flags.BoolVarP(&opts.yes, "yes", "y", false, "write without asking")
	return cmd
}

func (o *configOptions) check() error {
	problems := []error{view{o.server, o.gateway}.check()}
	if _, known := clients.Find(o.client); o.client != "" && !known {
		problems = append(problems, fmt.Errorf("--client must be one of %s, not %q%s", strings.Join(clients.Names(), ", "), o.client, nearest.Hint(o.client, clients.Names(), nil)))
	}
	switch {
	case o.write && o.client == "":
		problems = append(problems, errors.New("--write needs --client: every client has a file of its own"))
	case !o.write && o.yes:
		problems = append(problems, errors.New("--yes goes with --write"))
	case !o.write && o.file != "":
		problems = append(problems, errors.New("--file goes with --write"))
	}
	return errors.Join(problems...)
}

// configJSON is the JSON form of what mcp-config prints.
type configJSON struct {
	Client  string `json:"client"`
	File    string `json:"file,omitempty"`
	Format  string `json:"format"`
	Config  string `json:"config,omitempty"`
	Changed *bool  `json:"changed,omitempty"` // with --write
	Backup  string `json:"backup,omitempty"`
}

func (a *app) mcpConfig(opts *configOptions) error {
	bases, err := a.bases()
	if err != nil {
		return err
	}
	client, known := clients.Find(opts.client)
	if !known {
		client = clients.Generic
	}
	at := view{opts.server, opts.gateway}
	server := clients.Server{
		Name:    cmp.Or(opts.as, opts.server, opts.gateway, "mcpfleet"),
		URL:     bases[0] + at.path(),
		Command: append([]string{a.program()}, at.connectArgs(bases)...),
		Stdio:   opts.stdio,
	}
	file := opts.file
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil && opts.write {
			return fmt.Errorf("find the client's file: %w", err)
		}
		file = client.File(clients.Place{OS: runtime.GOOS, Home: home, Lookup: a.Lookup})
	}
	if len(bases) > 1 && client.HTTP() && !opts.stdio {
		fmt.Fprintf(a.Err, "mcpfleet: %s connects to %s only; with --stdio it goes over to another controller when that one is lost\n", client.Title, bases[0])
	}
	if opts.write {
		return a.writeConfig(&client, server, file, opts.yes)
	}
	if a.output == formatJSON {
		return a.printJSON(configJSON{Client: client.Name, File: file, Format: client.Format(), Config: client.Snippet(server)})
	}
	fmt.Fprint(a.Out, client.Snippet(server))
	if known {
		fmt.Fprintf(a.Err, "mcpfleet: the file of %s is %s; --write adds this to it\n", client.Title, file)
		if project := client.Project(); project != "" {
			fmt.Fprintf(a.Err, "mcpfleet: for one project, --file %s\n", project)
		}
	}
	return nil
}

// program returns the path of this program for a client, whose PATH may be another
// one.
func (a *app) program() string {
	name := "mcpfleet"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(a.BinDir, name)
}

// connectArgs returns the arguments of mcpfleet that connect a client to the view.
func (v view) connectArgs(bases []string) []string {
	args := []string{"connect"}
	if v.server != "" {
		args = append(args, v.server)
	}
	if v.gateway != "" {
		args = append(args, "--gateway", v.gateway)
	}
	return append(args, "--address", strings.Join(bases, ","))
}

// writeConfig adds the entry for a server to a client's file.
func (a *app) writeConfig(client *clients.Client, server clients.Server, file string, yes bool) error {
	// A link, as of a repository with settings, stays one.
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the file of %s: %w", client.Title, err)
	}
	exists := err == nil
	text, err := client.Add(string(old), server)
	if err != nil {
		return fmt.Errorf("%s was not changed: %w", file, err)
	}
	changed := text != string(old)
	done := configJSON{Client: client.Name, File: file, Format: client.Format(), Changed: &changed}
	if !changed {
		return a.printWritten(done)
	}
	diff := a.Out
	if a.output == formatJSON {
		diff = a.Err
	}
	fmt.Fprint(diff, printableLines(udiff.Unified(file, file, string(old), text)))
	if !yes && !a.confirm("write "+file+"?") {
		return errors.New("nothing was written; to write without the question, pass --yes")
	}
	if now, err := os.ReadFile(file); exists != (err == nil) || string(now) != string(old) {
		return fmt.Errorf("%s was not changed, because another program has changed it meanwhile; try again", file)
	}
	if exists {
		done.Backup = file + time.Now().Format(".20060102-150405.bak")
		if err := datadir.Copy(file, done.Backup); err != nil {
			return fmt.Errorf("%s was not changed: %w", file, err)
		}
	} else if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write the file of %s: %w", client.Title, err)
	}
	if err := datadir.Rewrite(file, []byte(text)); err != nil {
		return err
	}
	if err := a.printWritten(done); err != nil {
		return err
	}
	if after := client.After(); after != "" {
		fmt.Fprintf(a.Err, "mcpfleet: %s\n", after)
	}
	return nil
}

func (a *app) printWritten(done configJSON) error {
	switch {
	case a.output == formatJSON:
		return a.printJSON(done)
	case !*done.Changed:
		fmt.Fprintf(a.Out, "nothing to change in %s\n", done.File)
	case done.Backup != "":
		fmt.Fprintf(a.Out, "wrote %s; the old file is %s\n", done.File, done.Backup)
	default:
		fmt.Fprintf(a.Out, "wrote %s\n", done.File)
	}
	return nil
}

// confirm asks a question and reports whether the answer is yes.
func (a *app) confirm(question string) bool {
	fmt.Fprintf(a.Err, "%s [y/N] ", question)
	line, _ := bufio.NewReader(a.In).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}

// printableLines replaces control characters in each line of a text. Tabs stay.
func printableLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		body, end := strings.CutSuffix(line, "\n")
		parts := strings.Split(strings.TrimSuffix(body, "\r"), "\t")
		for i, part := range parts {
			parts[i] = progress.Printable(part)
		}
		out.WriteString(strings.Join(parts, "\t"))
		if end {
			out.WriteByte('\n')
		}
	}
	return out.String()
}
