package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/cli/shell"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// backupCommand returns the command, and a function that adds its --output. That
// flag names a file, and must not get an environment variable.
func (a *app) backupCommand() (cmd *cobra.Command, addOutput func()) {
	var file string
	var stale bool
	cmd = &cobra.Command{
		Use:   "backup",
		Short: "Write the desired state, secrets included, to a file",
		Long: `Write the desired state of the fleet, secrets included, to a file that only its owner can read. An existing file is never overwritten.
mcpfleet restore starts a new cluster from it.`,
		Annotations: map[string]string{ownOutput: "file"},
		Args:        cobra.NoArgs,
		RunE: a.withClient(func(ctx context.Context, client *api.Client, _ []string) error {
			return a.backup(ctx, client, file, stale)
		}),
	}
	cmd.Flags().BoolVar(&stale, "stale", false, "work without a leader: take the last state that the controller knew")
	cmd.AddCommand(a.inspectCommand())
	return cmd, func() {
		cmd.Flags().StringVarP(&file, "output", "o", "", "file to write, or - for stdout (default: mcpfleet-CLUSTER-TIME.backup)")
	}
}

func (a *app) backup(ctx context.Context, client *api.Client, file string, stale bool) error {
	if out, ok := a.Out.(*os.File); ok && file == "-" && term.IsTerminal(int(out.Fd())) {
		a.usageOK = false
		return errors.New("a backup is binary and has secrets, so it is not written to a terminal: pass a file to --output")
	}
	if file != "" && file != "-" {
		if _, err := os.Lstat(file); err == nil { // before anything is fetched
			return fmt.Errorf("%s exists already; a backup overwrites nothing", file)
		}
	}
	var data bytes.Buffer
	if err := client.Backup(ctx, &data, api.ReadOptions{Stale: stale}); err != nil {
		return err
	}
	b, err := store.ReadBackup(bytes.NewReader(data.Bytes()))
	if err != nil {
		return fmt.Errorf("the controller did not send a complete backup: %w", err)
	}
	if file == "-" {
		_, err := data.WriteTo(a.Out)
		return err
	}
	if file == "" {
		file = fmt.Sprintf("mcpfleet-%s-%s.backup", b.Cluster, b.TakenAt.UTC().Format("20060102T150405Z"))
	}
	if err := writeNew(file, data.Bytes()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	_, err = fmt.Fprintf(a.Out, "wrote %s: %d servers of cluster %s, as of index %d\n", file, len(b.State.Servers), b.Cluster, b.Index)
	return err
}

// writeNew writes a new file that only its owner can read, completely or not at
// all. It never overwrites a file.
func writeNew(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces a file.
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already; a backup overwrites nothing", path)
	} else if err == nil {
		return nil
	}
	// The file system has no links, so the file is written in place. A crash
	// could leave it incomplete.
	empty, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = empty.Write(data)
	if err = errors.Join(err, empty.Sync(), empty.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

func (a *app) readBackup(file string) (*store.Backup, error) {
	in := a.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := store.ReadBackup(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return b, nil
}

func (a *app) restoreCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "restore FILE --data-dir DIR",
		Short: "Start a new cluster from a backup",
		Long: `Write a backup to the empty data directory of a controller, which then founds a new cluster. Use it after the loss of all controllers,
or of the desired state. No controller may run meanwhile, and none may start again with its old data directory. Workers may run:
they obey the new cluster and refuse late orders of the old one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := a.readBackup(args[0])
			if err != nil {
				return err
			}
			if err := store.Restore(dir, b); err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			_, err = fmt.Fprintf(a.Out, `restored %d servers of cluster %s, as of %s, to %s
Next steps:
  1. Move the old data directories of all controllers away. No controller may start with one again.
  2. Start one controller where workers can find it: controller --data-dir %s, with its other flags as before.
  3. Check the result: mcpfleet get, mcpfleet status.
  4. Start the other controllers with empty data directories and --join.
`, len(b.State.Servers), b.Cluster, b.TakenAt.Local().Format(time.RFC3339), dir, shell.Quote(dir))
			return err
		},
	}
	a.rules[cmd] = func([]string) error {
		if dir == "" {
			return errors.New("--data-dir is missing: pass the empty data directory of a controller")
		}
		return nil
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "data directory of the controller; created if it does not exist")
	return cmd
}

// backupView is a backup without its secrets.
type backupView struct {
	Format      int               `json:"format"`
	Cluster     fleet.ClusterID   `json:"cluster"`
	Incarnation fleet.Incarnation `json:"incarnation"`
	Index       uint64            `json:"index"`
	Term        uint64            `json:"term"`
	TakenAt     time.Time         `json:"taken_at"`
	Version     string            `json:"version"`
	Servers     []backupServer    `json:"servers"`
}

type backupServer struct {
	Name      fleet.ServerName     `json:"name"`
	Revision  fleet.Revision       `json:"revision"`
	Desired   int                  `json:"desired"`
	Revisions []fleet.Revision     `json:"revisions"` // those that are kept
	Spec      fleetfile.ServerView `json:"spec"`      // secrets masked
}

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "Show what a backup contains, with secrets masked",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := a.readBackup(args[0])
			if err != nil {
				return err
			}
			v := backupView{
				Format: b.Format, Cluster: b.Cluster, Incarnation: b.Incarnation, Index: b.Index, Term: uint64(b.Term), TakenAt: b.TakenAt, Version: b.Version,
				Servers: []backupServer{},
			}
			for _, name := range slices.Sorted(maps.Keys(b.State.Servers)) {
				sv := b.State.Servers[name]
				one := backupServer{Name: name, Revision: sv.Revision, Desired: sv.Replicas, Revisions: []fleet.Revision{}, Spec: fleetfile.View(&sv.Spec)}
				for _, r := range sv.Revisions {
					one.Revisions = append(one.Revisions, r.Number)
				}
				v.Servers = append(v.Servers, one)
			}
			if a.output == formatJSON {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.Out, "cluster %s, incarnation %d, index %d, taken %s by version %s\n\n",
				v.Cluster, v.Incarnation, v.Index, v.TakenAt.Local().Format(time.RFC3339), progress.Printable(v.Version))
			t := newTable(a.Out, "SERVER", "REVISION", "REPLICAS", "RUNS")
			for _, s := range v.Servers {
				runs := s.Spec.Image
				if runs == "" {
					runs = strings.Join(s.Spec.Command, " ")
				}
				t.row(s.Name, s.Revision, s.Desired, runs)
			}
			return t.flush()
		},
	}
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of fleet files",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.Out.Write(append(bytes.TrimRight(fleetfile.Schema(), "\n"), '\n'))
			return err
		},
	}
}
