package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/cli/progress"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func (a *app) logsCommand() *cobra.Command {
	var opts api.LogOptions
	cmd := &cobra.Command{
		Use:   "logs REPLICA|SERVER",
		Short: "Show the stderr of a replica, or of all replicas of a server",
		Long: `Show the stderr of a replica, or of all replicas of a server. With --follow a server is followed across restarts, new replicas
included; a replica is followed until it has ended.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeServer(false),
		RunE: a.withClient(func(ctx context.Context, client *api.Client, args []string) error {
			return a.logs(ctx, client, args[0], opts)
		}),
	}
	a.rules[cmd] = func([]string) error {
		if opts.Tail < 0 {
			return errors.New("--tail must not be negative")
		}
		return nil
	}
	cmd.Flags().BoolVarP(&opts.Follow, "follow", "f", false, "keep showing new lines")
	cmd.Flags().IntVar(&opts.Tail, "tail", 0, "only this many of the last lines; 0 for all that are kept")
	return cmd
}

// logLine is the JSON form of a line.
type logLine struct {
	Replica fleet.ReplicaID `json:"replica"`
	Line    string          `json:"line"`
}

func (a *app) logs(ctx context.Context, client *api.Client, name string, opts api.LogOptions) error {
	show := &lines{app: a, stream: opts.Follow}
	if err := a.showLogs(ctx, client, name, opts, show); err != nil {
		return err
	}
	return show.end()
}

func (a *app) showLogs(ctx context.Context, client *api.Client, name string, opts api.LogOptions, show *lines) error {
	replicas, err := client.Replicas(ctx)
	if err != nil {
		return err
	}
	var ofServer []fleet.ReplicaID
	for _, r := range replicas {
		if string(r.ID) == name && opts.Follow {
			return a.follow(ctx, client, &follower{server: r.Server, only: r.ID, tail: opts.Tail, show: show})
		}
		if string(r.ID) == name {
			return logsOf(ctx, client, r.ID, opts, show)
		}
		if string(r.Server) == name {
			ofServer = append(ofServer, r.ID)
		}
	}
	if len(ofServer) > 0 && !opts.Follow {
		show.named = true
		return logsOfAll(ctx, client, ofServer, opts, show)
	}
	// The name is an ended replica, or a server without replicas.
	servers, err := client.Servers(ctx)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if opts.Follow && string(s.Name) == name {
			show.named = true
			return a.follow(ctx, client, &follower{server: s.Name, tail: opts.Tail, show: show})
		}
		for _, e := range s.LastEnded {
			if string(s.Name) == name || string(e.ID) == name {
				if err := logsOf(ctx, client, e.ID, api.LogOptions{Tail: opts.Tail}, show); err != nil {
					return err
				}
				fmt.Fprintf(a.Err, "mcpfleet: %s is %s: %s\n", e.ID, e.Phase, progress.Printable(e.Reason))
				return nil
			}
		}
		if string(s.Name) == name {
			return fmt.Errorf("%s has no replicas and no logs of earlier ones", name)
		}
	}
	return fmt.Errorf("there is no replica and no server named %q%s", name, nearServer(name, servers))
}

func (a *app) follow(ctx context.Context, client *api.Client, f *follower) error {
	f.app, f.client, f.known = a, client, map[fleet.ReplicaID]*tailed{}
	return f.run(ctx)
}

// logsOf shows the lines of one replica, running or ended.
func logsOf(ctx context.Context, client *api.Client, id fleet.ReplicaID, opts api.LogOptions, show *lines) error {
	w := &lineWriter{id: id, to: show}
	return errors.Join(client.Logs(ctx, id, opts, w), w.flush())
}

// logsOfAll shows the logs of several replicas, one after the other. A replica that
// ends meanwhile is skipped.
func logsOfAll(ctx context.Context, client *api.Client, ids []fleet.ReplicaID, opts api.LogOptions, show *lines) error {
	for _, id := range ids {
		err := logsOf(ctx, client, id, opts, show)
		if gone, ok := errors.AsType[*api.Error](err); ok && gone.Status == http.StatusNotFound {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lines shows the lines of replicas as text or JSON. The JSON is one document,
// or with stream one document per line.
type lines struct {
	app    *app
	named  bool // lines begin with the replica
	stream bool

	mu  sync.Mutex
	all []logLine
}

func (l *lines) add(id fleet.ReplicaID, line string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	switch {
	case l.app.output == formatJSON && l.stream:
		enc := json.NewEncoder(l.app.Out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(logLine{id, line})
	case l.app.output == formatJSON:
		l.all = append(l.all, logLine{id, line})
	case l.named:
		_, err = fmt.Fprintf(l.app.Out, "%s  %s\n", id, line)
	default:
		_, err = fmt.Fprintln(l.app.Out, line)
	}
	return err
}

func (l *lines) end() error {
	if l.app.output != formatJSON || l.stream {
		return nil
	}
	return l.app.printJSON(map[string][]logLine{"lines": append([]logLine{}, l.all...)})
}

// lineWriter splits the log of one replica into lines.
type lineWriter struct {
	id  fleet.ReplicaID
	to  *lines
	buf []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			return len(b), nil
		}
		if err := w.to.add(w.id, string(w.buf[:i])); err != nil {
			return 0, err
		}
		w.buf = w.buf[i+1:]
	}
}

func (w *lineWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	return w.to.add(w.id, string(w.buf))
}
