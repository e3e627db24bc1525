package podman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// pullsAtOnce bounds the pulls of different images that run at once. The others wait.
const pullsAtOnce = 4

// pulls pulls images. One client at a time looks for an image, or pulls it, however
// many replicas wait for it. A pull is cancelled when nobody waits for it any more.
type pulls struct {
	r     *Runtime
	slots slots

	mu      sync.Mutex
	present map[string]bool  // seen on this node; podman run fails if one has gone since
	looks   map[string]slots // by image, one slot each
	running map[string]*pull
}

type pull struct {
	done    chan struct{} // closed when err is set
	err     error
	cancel  context.CancelCauseFunc
	waiting map[int]func(string) // each waiter's progress, under pulls.mu
	next    int
}

func newPulls(r *Runtime) *pulls {
	return &pulls{
		r: r, slots: make(slots, pullsAtOnce),
		present: make(map[string]bool), looks: make(map[string]slots), running: make(map[string]*pull),
	}
}

var errNobodyWaits = errors.New("nobody waits for the image any more")

// ensure pulls the image if the policy asks for that.
func (p *pulls) ensure(ctx context.Context, image string, policy fleet.PullPolicy, progress func(string)) error {
	if policy != fleet.PullAlways {
		there, err := p.has(ctx, image, policy)
		switch {
		case err != nil:
			return err
		case there:
			return nil
		case policy == fleet.PullNever:
			return fmt.Errorf("image %s is not on this node, and its pull policy is %q", image, policy)
		}
	}
	if err := p.pull(ctx, image, progress); err != nil {
		if ce := (*clientError)(nil); errors.As(err, &ce) {
			if h := hint(&fleet.Template{}, ce.reason, ce.code); h != "" {
				return fmt.Errorf("pull image %s: %w (%s)", image, err, h)
			}
		}
		return fmt.Errorf("pull image %s: %w", image, err)
	}
	return nil
}

// has reports whether the image is here. It does not look while the image is being
// pulled, unless the caller may not pull it.
func (p *pulls) has(ctx context.Context, image string, policy fleet.PullPolicy) (bool, error) {
	p.mu.Lock()
	look := p.looks[image]
	if look == nil {
		look = make(slots, 1)
		p.looks[image] = look
	}
	p.mu.Unlock()
	if err := look.take(ctx); err != nil {
		return false, err
	}
	defer look.free()
	p.mu.Lock()
	there, pulled := p.present[image], p.running[image] != nil
	p.mu.Unlock()
	if there || pulled && policy != fleet.PullNever {
		return there, nil
	}
	_, err := p.r.query(ctx, "image", "exists", image)
	if ce := (*clientError)(nil); errors.As(err, &ce) && ce.code == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for image %s: %w", image, err)
	}
	p.remember(image, true)
	return true, nil
}

func (p *pulls) remember(image string, present bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if present {
		p.present[image] = true
	} else {
		delete(p.present, image)
	}
}

// pull joins the running pull of the image or begins one.
func (p *pulls) pull(ctx context.Context, image string, progress func(string)) error {
	progress("")
	p.mu.Lock()
	one := p.running[image]
	if one == nil {
		pctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		one = &pull{done: make(chan struct{}), cancel: cancel, waiting: make(map[int]func(string))}
		p.running[image] = one
		p.r.background.Go(func() {
			err := p.run(pctx, image, one)
			cancel(nil)
			p.mu.Lock()
			if p.running[image] == one {
				delete(p.running, image)
			}
			if err == nil {
				p.present[image] = true
			}
			p.mu.Unlock()
			one.err = err
			close(one.done)
		})
	}
	me := one.next
	one.next++
	one.waiting[me] = progress
	p.mu.Unlock()

	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	delete(one.waiting, me)
	if len(one.waiting) == 0 {
		// From now on a new waiter begins a new pull.
		if p.running[image] == one {
			delete(p.running, image)
		}
		one.cancel(errNobodyWaits)
	}
	p.mu.Unlock()
	return context.Cause(ctx)
}

func (p *pulls) run(ctx context.Context, image string, one *pull) error {
	if err := p.slots.take(ctx); err != nil {
		return err
	}
	defer p.slots.free()
	// Podman downloads to a directory of this pull, because a cancelled podman
	// leaves its downloads behind.
	tmp, err := os.MkdirTemp(p.r.tmpDir(), "pull-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	err = p.client(ctx, image, tmp, one)
	if saysOneOf(err, "short-name") && dockerName(image) != image {
		err = p.client(ctx, dockerName(image), tmp, one)
	}
	return err
}

// dockerName returns the full name of the image that docker means by a short
// name. Once it is pulled, podman finds it by the short name too.
func dockerName(image string) string {
	first, _, path := strings.Cut(image, "/")
	switch {
	case !path:
		return "docker.io/library/" + image
	case strings.ContainsAny(first, ".:") || first == "localhost":
		return image
	}
	return "docker.io/" + image
}

// client runs one podman pull.
func (p *pulls) client(ctx context.Context, image, tmp string, one *pull) error {
	args := []string{"pull"}
	if p.r.authFile != "" {
		args = append(args, "--authfile="+p.r.authFile)
	}
	cmd := p.r.command(ctx, append(args, image)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp, marker{p.r.node, p.r.owner}.String())
	stderr, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	said := p.relayProgress(stderr, one)
	err = cmd.Wait()
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx)
	}
	return newClientError("pull", err, said)
}

// relayProgress passes each line on to the waiters as it comes, and returns the
// last part of the output.
func (p *pulls) relayProgress(r io.Reader, one *pull) []byte {
	const keep = 8 << 10
	var said []byte
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		said = append(append(said, lines.Bytes()...), '\n')
		if len(said) > 2*keep {
			said = append([]byte(nil), said[len(said)-keep:]...)
		}
		if lines.Text() == "" {
			continue
		}
		p.mu.Lock()
		waiting := make([]func(string), 0, len(one.waiting))
		for _, f := range one.waiting {
			waiting = append(waiting, f)
		}
		p.mu.Unlock()
		for _, progress := range waiting {
			progress(lines.Text())
		}
	}
	_, _ = io.Copy(io.Discard, r) // after a line that is too long: podman must not block
	return said
}
