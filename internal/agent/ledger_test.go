package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

var quiet = slog.New(slog.DiscardHandler)

// obey does what a start does.
func obey(l *ledger, o fleet.Order) error {
	if err := l.admit(o); err != nil {
		return err
	}
	return l.record(o)
}

func TestLedgerFile(t *testing.T) {
	open := func(t *testing.T, content string) (*ledger, string) {
		path := filepath.Join(t.TempDir(), "orders.json")
		if content != "" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := openLedger(path, quiet)
		if err != nil {
			t.Fatal(err)
		}
		return l, path
	}
	old := fleet.Order{Cluster: "c", Epoch: 7}
	const oldFile = `{"cluster":"c","epoch":7}` + "\n" // as it was before there were incarnations

	t.Run("old format", func(t *testing.T) {
		l, path := open(t, oldFile)
		if err := obey(l, fleet.Order{Cluster: "c", Epoch: 6}); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an older order: %v", err)
		}
		if err := obey(l, old); err != nil {
			t.Error(err)
		}
		next := fleet.Order{Cluster: "c", Incarnation: 1, Epoch: 1}
		if err := obey(l, next); err != nil {
			t.Error(err)
		}
		if got := onDisk(t, path); fleet.Order(got) != next {
			t.Errorf("the file has %+v", got)
		}
	})
	t.Run("on disk before it is obeyed", func(t *testing.T) {
		l, path := open(t, "")
		for e := range fleet.Epoch(5) {
			o := fleet.Order{Cluster: "c", Epoch: e + 1}
			if err := obey(l, o); err != nil {
				t.Fatal(err)
			}
			if got := onDisk(t, path); fleet.Order(got) != o {
				t.Errorf("admitted %+v with %+v on disk", o, got)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
	t.Run("power cut before the rename", func(t *testing.T) {
		l, path := open(t, oldFile)
		unfinished := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"123")
		if err := os.WriteFile(unfinished, []byte(`{"cluster":"c","epo`), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLedger(l.path, quiet)
		if err != nil || l.seen != old {
			t.Fatalf("read %+v, %v", l.seen, err)
		}
		next := fleet.Order{Cluster: "c", Epoch: 8}
		if err := obey(l, next); err != nil {
			t.Fatal(err)
		}
		if again, err := openLedger(path, quiet); err != nil || again.seen != next {
			t.Errorf("then read %+v, %v", again.seen, err)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
		if err != nil || len(left) != 1 {
			t.Errorf("the directory has %v, %v", left, err)
		}
	})
	t.Run("what cannot be recorded", func(t *testing.T) {
		l, path := open(t, oldFile)
		var told []string
		l.changed = func(cause string) { told = append(told, cause) }
		bringBack := takeAway(t, path)
		next := fleet.Order{Cluster: "c", Epoch: 8}
		if err := l.listen(next); err != nil {
			t.Errorf("a newer watch: %v", err)
		}
		for range 2 {
			if err := obey(l, next); !errors.Is(err, fleet.ErrNotRecorded) {
				t.Errorf("a newer order: %v", err)
			}
		}
		if err := obey(l, old); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an order older than one that was not recorded: %v", err)
		}
		if len(told) != 1 || !strings.Contains(told[0], "no such file") {
			t.Errorf("told %q", told)
		}
		bringBack()
		if got := onDisk(t, path); fleet.Order(got) != old {
			t.Errorf("the file has %+v", got)
		}
		if err := obey(l, next); err != nil {
			t.Errorf("when it can be recorded again: %v", err)
		}
		if len(told) != 2 || told[1] != "" {
			t.Errorf("told %q", told)
		}
		if got := onDisk(t, path); fleet.Order(got) != next {
			t.Errorf("the file has %+v", got)
		}
	})
	t.Run("a disk that does not answer", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			l, path := open(t, oldFile)
			stuck := make(chan struct{})
			l.store = func(o fleet.Order) error { <-stuck; return l.write(o) }
			next := fleet.Order{Cluster: "c", Epoch: 8}
			begin := time.Now()
			if err := l.listen(next); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took != 0 {
				t.Errorf("a watch waited for %s", took)
			}
			for i, want := range []time.Duration{recordPatience, 0, 0} {
				begin = time.Now()
				err := obey(l, next)
				if took := time.Since(begin); !errors.Is(err, fleet.ErrNotRecorded) || took != want {
					t.Errorf("order %d: %v after %s, want %s", i, err, took, want)
				}
			}
			close(stuck)
			synctest.Wait()
			if err := obey(l, next); err != nil {
				t.Errorf("once it answers: %v", err)
			}
			if got := onDisk(t, path); fleet.Order(got) != next {
				t.Errorf("the file has %+v", got)
			}
		})
	})
	t.Run("damaged", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "orders.json")
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openLedger(path, quiet); err == nil {
			t.Error("it was read")
		} else {
			contains(t, err.Error(), path)
		}
	})
}
