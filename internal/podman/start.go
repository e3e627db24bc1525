package podman

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// patience is how long podman may take to start a container. After that it
// counts as hung and is killed.
const patience = 3 * time.Minute

// Prepare implements fleet.Runtime.
func (r *Runtime) Prepare(ctx context.Context, l fleet.Launch) error {
	if _, err := r.create(l, r.record(containerName(l)), ""); err != nil {
		return err // checked before the pull
	}
	return r.pulls.ensure(ctx, l.Template.Image, l.Template.PullPolicy, l.Pulling)
}

// Start implements fleet.Runtime.
func (r *Runtime) Start(ctx context.Context, l fleet.Launch) (fleet.Process, error) {
	c, err := r.start(ctx, l, "")
	if isImageUnknown(err) {
		r.pulls.remember(l.Template.Image, false)
		return nil, fmt.Errorf("%w: %w", fleet.ErrImageGone, err)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func isImageUnknown(err error) bool {
	ce := (*clientError)(nil)
	return errors.As(err, &ce) && ce.code == 125 && saysOneOf(err, "image not known", "no such image")
}

// starting is a container whose podman client has been started.
type starting struct {
	rec   record
	ours  [3]*os.File // stdin, stdout, stderr
	ended chan struct{}
	err   error // of the client; set before ended is closed
}

// start runs podman. If that fails, it removes what there is of the container. If
// ctx ends first, it does so in the background.
func (r *Runtime) start(ctx context.Context, l fleet.Launch, rootfs string) (*container, error) {
	rec := r.record(containerName(l))
	s, err := r.launch(ctx, l, rec, rootfs)
	if err != nil {
		return nil, err
	}
	c := &container{r: r, rec: rec, template: l.Template, stdin: s.ours[0], stdout: s.ours[1], stderr: s.ours[2]}
	if r.mode.relay {
		c.client = s.ended
		err = r.awaitRelayed(ctx, c, s)
	} else {
		select {
		case <-s.ended:
			err = s.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err == nil {
		c.started()
		return c, nil
	}
	select {
	case <-s.ended:
		err = s.explain(l.Template)
		closeAll(s.ours[:])
		ce := (*clientError)(nil)
		c.broken = errors.As(err, &ce) && ce.signal != ""
		if rerr := c.Remove(ctx); rerr != nil {
			r.log.Warn("container that did not start not removed yet", "container", rec.name, "err", rerr)
		}
	default:
		r.log.Info("start abandoned: the container is removed when podman ends", "container", rec.name, "reason", err)
		closeAll(s.ours[:])
		r.background.Go(func() { r.abandon(c, s) })
	}
	return nil, err
}

// abandon waits for the client of an abandoned start and removes the container.
// The client is not killed: a killed podman leaves parts that it cannot find
// again.
func (r *Runtime) abandon(c *container, s *starting) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !r.mode.relay { // a relaying client ends with its container
		select {
		case <-s.ended:
		case <-ctx.Done():
			r.log.Warn("podman run hangs", "container", c.rec.name)
		}
	}
	if err := c.Remove(ctx); err != nil {
		r.log.Error("abandoned container not removed", "container", c.rec.name, "err", err)
	}
}

// launch starts the client with the container's pipes.
func (r *Runtime) launch(ctx context.Context, l fleet.Launch, rec record, rootfs string) (*starting, error) {
	create, err := r.create(l, rec, rootfs)
	if err != nil {
		return nil, err
	}
	if err := r.starts.take(ctx); err != nil {
		return nil, err
	}
	kept := false
	defer func() {
		if !kept {
			r.starts.free()
		}
	}()
	if err := os.Mkdir(rec.dir, 0o700); err != nil {
		return nil, fmt.Errorf("record container: %w", err)
	}
	if create.envFile != nil {
		if err := os.WriteFile(rec.envFile(), create.envFile, 0o600); err != nil {
			os.RemoveAll(rec.dir)
			return nil, fmt.Errorf("hand over env: %w", err)
		}
	}
	s := &starting{rec: rec, ended: make(chan struct{})}
	cmd, err := r.runClient(s, append([]string{"run"}, create.args...), create.env)
	if err != nil {
		os.RemoveAll(rec.dir)
		return nil, err
	}
	kept = true
	r.background.Go(func() {
		s.err = newClientError("run", r.waitClient(cmd), nil)
		os.Remove(rec.envFile())
		if !r.mode.relay {
			r.starts.free()
		}
		close(s.ended)
	})
	if r.mode.relay {
		r.starts.free() // the client stays, but only its start is work
	}
	return s, nil
}

func (r *Runtime) runClient(s *starting, args, env []string) (*exec.Cmd, error) {
	var theirs [3]*os.File
	for i := range theirs {
		read, write, err := os.Pipe()
		if err != nil {
			closeAll(theirs[:])
			closeAll(s.ours[:])
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		if s.ours[i], theirs[i] = read, write; i == 0 {
			s.ours[i], theirs[i] = write, read
		}
	}
	cmd := r.command(context.Background(), args...) // never cancelled
	cmd.Env = append(append(cmd.Env, env...), marker{r.node, r.owner}.String())
	cmd.Dir = s.rec.dir // conmon inherits it, and creates a file there when out of memory
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	err := cmd.Start()
	closeAll(theirs[:])
	if err != nil {
		closeAll(s.ours[:])
		return nil, fmt.Errorf("podman run: %w", err)
	}
	return cmd, nil
}

// waitClient waits for a client that starts a container, and kills it if it
// hangs. A relaying client lives as long as its container.
func (r *Runtime) waitClient(cmd *exec.Cmd) error {
	if r.mode.relay {
		return cmd.Wait()
	}
	hung := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer hung.Stop()
	return cmd.Wait()
}

// explain returns the error of a failed client, with podman's message and a
// hint. The client shares stderr with the container, so its message is in that
// pipe.
func (s *starting) explain(t *fleet.Template) error {
	// The message is in the pipe by now. The deadline is for a conmon that still
	// has the other end open.
	_ = s.ours[2].SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	said, _ := io.ReadAll(io.LimitReader(s.ours[2], 64<<10))
	ce := (*clientError)(nil)
	if s.err == nil {
		// A relaying client whose container exited with 0 before it was seen running.
		return fmt.Errorf("container ended at once: %s", withHint(reason(said), hint(t, string(said), 0)))
	}
	if !errors.As(s.err, &ce) {
		return s.err
	}
	ce.reason = reason(said)
	if h := hint(t, string(said), ce.code); h != "" {
		return fmt.Errorf("start container: %w (%s)", ce, h)
	}
	return fmt.Errorf("start container: %w", ce)
}

// awaitRelayed waits until the container runs, which a relaying client does not
// report.
func (r *Runtime) awaitRelayed(ctx context.Context, c *container, s *starting) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		select {
		case <-s.ended:
			if s.err == nil {
				return errors.New("ended at once")
			}
			return s.err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		if c.rec.id() == "" {
			continue
		}
		if st, err := r.inspect(ctx, c.rec.name); err == nil && st.Status != "created" && st.Status != "initialized" && st.Status != "configured" {
			if !r.mode.remote {
				c.pid, c.monitorPID = st.PID, st.ConmonPID
			}
			return nil
		}
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
