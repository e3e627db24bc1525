package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/proctab"
)

// Sweep implements fleet.Runtime. It finds what is left of earlier lives in four
// places, none of which is complete: the records in the data directory, podman's
// database, running conmons, and the state of the OCI runtimes.
func (r *Runtime) Sweep(ctx context.Context) ([]string, error) {
	lives := r.lives()
	var errs []error
	if !r.mode.remote {
		if err := r.awaitClients(ctx, lives); err != nil {
			errs = append(errs, err)
		}
	}
	found := make(map[string]string) // container name -> id; "": unknown
	for _, name := range r.recorded() {
		found[name] = r.record(name).id()
	}
	if err := r.listed(ctx, lives, found); err != nil {
		errs = append(errs, err)
	}
	if !r.mode.remote {
		r.watched(lives, found)
	}

	var mu sync.Mutex
	var removed []string
	var group sync.WaitGroup
	remove := func(what string, f func() error) {
		group.Go(func() {
			err := f()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				removed = append(removed, what)
			}
		})
	}
	for name, id := range found {
		remove("container "+name, func() error {
			rec := r.record(name)
			if err := r.adopt(rec, id); err != nil {
				return err
			}
			return r.remove(rec, true)
		})
	}
	group.Wait()
	if !r.mode.remote {
		for _, id := range orphanedStates(lives) {
			remove("state of container "+id, func() error { return r.scrubID(ctx, id) })
		}
		group.Wait()
	}
	errs = append(errs, r.emptyTmp())
	slices.Sort(removed)
	if len(removed) > 0 {
		r.log.Info("removed what an earlier life of this node left", "removed", removed)
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("sweep: %w", err)
	}
	return removed, nil
}

// lives finds out which lives of this node are over, and remembers it.
type lives struct {
	r       *Runtime
	verdict map[string]bool
}

func (r *Runtime) lives() *lives { return &lives{r, make(map[string]bool)} }

// over reports whether owner is a life of this node that is over.
func (l *lives) over(node, owner string) bool {
	if node != string(l.r.node) {
		return false
	}
	dead, ok := l.verdict[owner]
	if !ok {
		o, valid := proctab.ParseOwner(owner)
		dead = valid && l.r.owner.Outlived(o)
		l.verdict[owner] = dead
	}
	return dead
}

// awaitClients waits for podman clients of earlier lives that start containers:
// they outlive their worker, and a start must not be interrupted. It kills those
// that pull.
func (r *Runtime) awaitClients(ctx context.Context, lives *lives) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("a podman client of an earlier life hangs"))
	defer cancel()
	clients := func(verb string) []proctab.ID {
		var ids []proctab.ID
		for _, p := range proctab.Table() {
			w := proctab.Cmdline(p.PID)
			if len(w) < 2 || filepath.Base(w[0]) != "podman" || w[1] != verb {
				continue
			}
			if m, ok := readMarker(p.PID); ok && lives.over(string(m.node), m.owner.String()) {
				ids = append(ids, p.ID)
			}
		}
		return ids
	}
	if _, err := proctab.KillAll(ctx, func() []proctab.ID { return clients("pull") }); err != nil {
		return err
	}
	for _, id := range clients("run") {
		if words := proctab.Cmdline(id.PID); !slices.Contains(words, "--detach") {
			continue // it relays a running container, and ends with it
		}
		if err := proctab.WaitGone(ctx, id); err != nil {
			r.log.Warn("killing a podman client of an earlier life that hangs", "pid", id.PID)
			if err := proctab.Signal(id, 9); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Runtime) recorded() []string {
	entries, err := os.ReadDir(r.recordsDir())
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// listed adds the containers of earlier lives in podman's database.
func (r *Runtime) listed(ctx context.Context, lives *lives, found map[string]string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("podman ps took too long"))
	defer cancel()
	out, err := r.query(ctx, "ps", "--all", "--filter=label="+labelNode+"="+string(r.node), "--format=json")
	if err != nil {
		return err
	}
	var rows []struct {
		ID     string `json:"Id"`
		Names  []string
		Labels map[string]string
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		return fmt.Errorf("podman ps: %w", err)
	}
	for _, row := range rows {
		if len(row.Names) > 0 && lives.over(row.Labels[labelNode], row.Labels[labelOwner]) {
			found[row.Names[0]] = row.ID
		}
	}
	return nil
}

// watched adds the containers of running conmons, which podman may not know.
func (r *Runtime) watched(lives *lives, found map[string]string) {
	for _, p := range proctab.Table() {
		name, id := conmonOf(proctab.Cmdline(p.PID))
		if !strings.HasPrefix(name, "mcpfleet-") || name != filepath.Base(name) {
			continue
		}
		if m, ok := readMarker(p.PID); ok && lives.over(string(m.node), m.owner.String()) {
			found[name] = id
		}
	}
}

// adopt makes a record of a container that has none.
func (r *Runtime) adopt(rec record, id string) error {
	if err := os.MkdirAll(rec.dir, 0o700); err != nil {
		return fmt.Errorf("record container: %w", err)
	}
	if rec.id() != "" || id == "" {
		return nil
	}
	return os.WriteFile(rec.cidFile(), []byte(id), 0o600)
}

// orphanedStates returns the ids of containers that only the OCI runtime knows.
// Their annotations are in its state.
func orphanedStates(lives *lives) []string {
	var ids []string
	for _, root := range stateRoots() {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if isID(e.Name()) && lives.ownState(filepath.Join(root, e.Name())) {
				ids = append(ids, e.Name())
			}
		}
	}
	return ids
}

// ownState reports whether runc's state.json is of a life that is over. crun
// keeps no annotations there.
func (l *lives) ownState(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return false
	}
	var s struct {
		Config struct {
			Labels []string `json:"labels"`
		} `json:"config"`
	}
	if json.Unmarshal(b, &s) != nil {
		return false
	}
	var node, owner string
	for _, kv := range s.Config.Labels {
		switch name, value, _ := strings.Cut(kv, "="); name {
		case labelNode:
			node = value
		case labelOwner:
			owner = value
		}
	}
	return l.over(node, owner)
}

func (r *Runtime) scrubID(ctx context.Context, id string) error {
	rec := r.record("mcpfleet-unknown-" + id)
	if err := r.adopt(rec, id); err != nil {
		return err
	}
	if err := r.scrub(ctx, rec); err != nil {
		return err
	}
	return os.RemoveAll(rec.dir)
}

// emptyTmp removes the files of interrupted pulls and probes.
func (r *Runtime) emptyTmp() error {
	entries, err := os.ReadDir(r.tmpDir())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(r.tmpDir(), e.Name())))
	}
	return errors.Join(errs...)
}
