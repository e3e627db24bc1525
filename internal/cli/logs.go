package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) logsCommand() *cobra.Command {
	var opts api.LogOptions
	cmd := &cobra.Command{
		Use:               "logs REPLICA|SERVER",
		Short:             "Show what a replica, or all of a server, wrote to stderr",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completing(false),
		RunE: a.asking(func(ctx context.Context, client *api.Client, args []string) error {
			if opts.Tail < 0 {
				a.understood = false
				return errors.New("--tail must not be negative")
			}
			return a.logs(ctx, client, args[0], opts)
		}),
	}
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "go on with the lines to come")
	cmd.Flags().IntVar(&opts.Tail, "tail", 0, "only so many of the last lines; 0 for all that are kept")
	return cmd
}

func (a *app) logs(ctx context.Context, client *api.Client, name string, opts api.LogOptions) error {
	replicas, err := client.Replicas(ctx)
	if err != nil {
		return err
	}
	var ofServer []fleet.ReplicaID
	for _, r := range replicas {
		if string(r.ID) == name {
			return client.Logs(ctx, r.ID, opts, a.Out)
		}
		if string(r.Server) == name {
			ofServer = append(ofServer, r.ID)
		}
	}
	if len(ofServer) > 0 {
		return a.logsOf(ctx, client, ofServer, opts)
	}
	// It has ended, or it is a server of which none is left.
	servers, err := client.Servers(ctx)
	if err != nil {
		return err
	}
	for _, s := range servers {
		for _, e := range s.LastEnded {
			if string(s.Name) == name || string(e.ID) == name {
				lines := e.Log
				if opts.Tail > 0 {
					lines = lines[max(0, len(lines)-opts.Tail):]
				}
				for _, line := range lines {
					fmt.Fprintln(a.Out, line)
				}
				fmt.Fprintf(a.Err, "mcpfleet: %s is %s: %s\n", e.ID, e.Phase, printable(e.Reason))
				return nil
			}
		}
		if string(s.Name) == name {
			return fmt.Errorf("%s has no replica, and had none", name)
		}
	}
	return fmt.Errorf("there is no replica and no server named %q", name)
}

// logsOf shows several replicas at once, each line with its replica. One that
// ends meanwhile is no error.
func (a *app) logsOf(ctx context.Context, client *api.Client, ids []fleet.ReplicaID, opts api.LogOptions) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	if !opts.Follow {
		group.SetLimit(1) // one after the other
	}
	for _, id := range ids {
		group.Go(func() error {
			w := &prefixer{prefix: string(id) + "  ", out: a.Out, mu: &mu}
			err := client.Logs(ctx, id, opts, w)
			if gone, ok := errors.AsType[*api.Error](err); ok && gone.Status == http.StatusNotFound {
				err = nil
			}
			return errors.Join(err, w.flush())
		})
	}
	return group.Wait()
}

// prefixer writes whole lines with a prefix.
type prefixer struct {
	prefix string
	buf    []byte

	mu  *sync.Mutex // guards out, which others write to
	out io.Writer
}

func (p *prefixer) Write(b []byte) (int, error) {
	p.buf = append(p.buf, b...)
	for {
		i := bytes.IndexByte(p.buf, '\n')
		if i < 0 {
			return len(b), nil
		}
		if err := p.line(p.buf[:i]); err != nil {
			return 0, err
		}
		p.buf = p.buf[i+1:]
	}
}

func (p *prefixer) line(line []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintf(p.out, "%s%s\n", p.prefix, line)
	return err
}

func (p *prefixer) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	return p.line(p.buf)
}
