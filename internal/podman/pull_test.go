package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// fake returns a runtime whose podman is a script, so that pulls need no
// registry.
func fake(t *testing.T, script string) (r *Runtime, log func() string) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "podman")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\necho \"$*\" >> "+dir+"/log\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	r = &Runtime{node: "n1", bin: bin, dir: dir, environ: os.Environ(), starts: make(slots, 4), queries: make(slots, 4)}
	if err := os.Mkdir(r.tmpDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	r.pulls = newPulls(r)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // t.Context() has ended
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return r, func() string {
		b, _ := os.ReadFile(dir + "/log")
		return string(b)
	}
}

// lines collects progress.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(s string) { l.mu.Lock(); l.all = append(l.all, s); l.mu.Unlock() }

func (l *lines) String() string { l.mu.Lock(); defer l.mu.Unlock(); return strings.Join(l.all, "|") }

const absent = "case $1 in image) exit 1;; esac\n"

func TestPullPolicies(t *testing.T) {
	for _, c := range []struct {
		name   string
		script string
		policy fleet.PullPolicy
		log    string // the clients of two calls
		err    string
	}{
		{"missing and there", "exit 0", fleet.PullMissing, "image exists img\n", ""},
		{"missing and not there", absent, fleet.PullMissing, "image exists img\npull img\n", ""},
		{"the default", absent, "", "image exists img\npull img\n", ""},
		{"always", "exit 0", fleet.PullAlways, "pull img\npull img\n", ""},
		{"never and there", "exit 0", fleet.PullNever, "image exists img\n", ""},
		{"never and not there", absent, fleet.PullNever, "image exists img\nimage exists img\n", `pull policy is "never"`},
		{"refused", absent + "echo 'Error: initializing source: unauthorized' >&2; exit 125", fleet.PullMissing,
			"image exists img\npull img\nimage exists img\npull img\n", "pull image img: podman pull: initializing source: unauthorized"},
		{"a short name without registries", "case \"$*\" in 'image exists'*) exit 1;; 'pull img') echo 'Error: short-name \"img\" did not resolve to an alias and no unqualified-search registries are defined' >&2; exit 125;; esac\n",
			fleet.PullMissing, "image exists img\npull img\npull docker.io/library/img\n", ""},
		{"storage broken", "echo 'Error: no storage' >&2; exit 125", fleet.PullMissing, "image exists img\nimage exists img\n", "look for image img"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, log := fake(t, c.script)
			for range 2 {
				err := r.pulls.ensure(t.Context(), "img", c.policy, func(string) {})
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("ensure = %v, want %q", err, c.err)
				}
			}
			if log() != c.log {
				t.Errorf("clients:\n%swant:\n%s", log(), c.log)
			}
		})
	}
}

func TestDockerName(t *testing.T) {
	for image, want := range map[string]string{
		"img": "docker.io/library/img", "img:1": "docker.io/library/img:1", "mcp/time": "docker.io/mcp/time", "mcp/time@sha256:ab": "docker.io/mcp/time@sha256:ab",
		"docker.io/mcp/time": "docker.io/mcp/time", "ghcr.io/a/b": "ghcr.io/a/b", "localhost/a": "localhost/a", "registry:5000/a": "registry:5000/a", "host.lan/a/b": "host.lan/a/b",
	} {
		if got := dockerName(image); got != want {
			t.Errorf("dockerName(%q) = %q, want %q", image, got, want)
		}
	}
}

func TestPullOnceForAllWhoWait(t *testing.T) {
	gate := filepath.Join(t.TempDir(), "gate")
	r, log := fake(t, absent+fmt.Sprintf("echo Copying >&2; while [ ! -e %s ]; do sleep 0.02; done; echo Writing >&2", gate))
	r.authFile = "/auth.json"
	var all [5]lines
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			if err := r.pulls.ensure(t.Context(), "img", fleet.PullMissing, all[i].add); err != nil {
				t.Error(err)
			}
		})
	}
	joined := func() bool {
		r.pulls.mu.Lock()
		defer r.pulls.mu.Unlock()
		one := r.pulls.running["img"]
		return one != nil && len(one.waiting) == len(all)
	}
	for deadline := time.Now().Add(10 * time.Second); !joined(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not all wait for one pull")
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if n := strings.Count(log(), "pull --authfile=/auth.json img\n"); n != 1 {
		t.Errorf("%d pulls, want one:\n%s", n, log())
	}
	for i := range all {
		if !strings.HasSuffix(all[i].String(), "Writing") {
			t.Errorf("waiter %d was told %q", i, &all[i])
		}
	}
}

// One client looks for an image, however many replicas need it at the same moment.
func TestLookOnceForAllWhoNeedAnImage(t *testing.T) {
	r, log := fake(t, "sleep 0.1")
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := r.pulls.ensure(t.Context(), "img", fleet.PullMissing, func(string) {}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if log() != "image exists img\n" {
		t.Errorf("clients:\n%s", log())
	}
}

func TestPullEndsWithItsLastWaiter(t *testing.T) {
	r, log := fake(t, absent+`echo $$ >&2; touch "$TMPDIR/blob"; exec sleep 60`)
	why := errors.New("told to stop")
	var said [2]lines
	var ctxs [2]context.Context
	var cancels [2]context.CancelCauseFunc
	errs := make([]chan error, 2)
	for i := range errs {
		ctxs[i], cancels[i] = context.WithCancelCause(t.Context())
		errs[i] = make(chan error, 1)
		go func() { errs[i] <- r.pulls.pull(ctxs[i], "img", said[i].add) }()
	}
	for deadline := time.Now().Add(10 * time.Second); strings.Count(said[0].String()+said[1].String(), "|") == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no progress")
		}
	}
	cancels[0](why)
	if err := <-errs[0]; !errors.Is(err, why) {
		t.Errorf("first waiter: %v", err)
	}
	select {
	case err := <-errs[1]:
		t.Fatalf("the other waiter was ended, too: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancels[1](why)
	if err := <-errs[1]; !errors.Is(err, why) {
		t.Errorf("second waiter: %v", err)
	}
	if err := r.Close(within(t, 10*time.Second)); err != nil {
		t.Fatalf("the client did not end: %v\n%s", err, log())
	}
	if entries, err := os.ReadDir(r.tmpDir()); err != nil || len(entries) != 0 {
		t.Errorf("left in tmp: %v, %v", entries, err)
	}
}
