package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestLedgerFile(t *testing.T) {
	open := func(t *testing.T, content string) (*ledger, string) {
		path := filepath.Join(t.TempDir(), "orders.json")
		if content != "" {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l, err := openLedger(path)
		if err != nil {
			t.Fatal(err)
		}
		return l, path
	}
	old := fleet.Order{Cluster: "c", Epoch: 7}
	const oldFile = `{"cluster":"c","epoch":7}` + "\n" // as it was before there were incarnations

	t.Run("old format", func(t *testing.T) {
		l, path := open(t, oldFile)
		if err := l.admit(fleet.Order{Cluster: "c", Epoch: 6}); !errors.Is(err, fleet.ErrStaleEpoch) {
			t.Errorf("an older order: %v", err)
		}
		if err := l.admit(old); err != nil {
			t.Error(err)
		}
		next := fleet.Order{Cluster: "c", Incarnation: 1, Epoch: 1}
		if err := l.admit(next); err != nil {
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
			if err := l.admit(o); err != nil {
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
		if err := os.WriteFile(path+".new", []byte(`{"cluster":"c","epo`), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLedger(l.path)
		if err != nil || l.seen != old {
			t.Fatalf("read %+v, %v", l.seen, err)
		}
		next := fleet.Order{Cluster: "c", Epoch: 8}
		if err := l.admit(next); err != nil {
			t.Fatal(err)
		}
		if again, err := openLedger(path); err != nil || again.seen != next {
			t.Errorf("then read %+v, %v", again.seen, err)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
		if err != nil || len(left) != 1 {
			t.Errorf("the directory has %v, %v", left, err)
		}
	})
	t.Run("what cannot be recorded is not obeyed", func(t *testing.T) {
		l, path := open(t, oldFile)
		if err := os.Mkdir(path+".new", 0o700); err != nil { // in the way
			t.Fatal(err)
		}
		if err := l.admit(fleet.Order{Cluster: "c", Epoch: 8}); err == nil {
			t.Error("a newer order was admitted")
		}
		if err := l.listen(fleet.Order{Cluster: "c", Epoch: 8}); err == nil {
			t.Error("a newer watch was let in")
		}
		if err := l.admit(old); err != nil {
			t.Errorf("an order of the epoch that is recorded: %v", err)
		}
		if err := os.Remove(path + ".new"); err != nil {
			t.Fatal(err)
		}
		if err := l.admit(fleet.Order{Cluster: "c", Epoch: 8}); err != nil {
			t.Errorf("when it can be recorded again: %v", err)
		}
	})
	t.Run("damaged", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "orders.json")
		if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openLedger(path); err == nil {
			t.Error("it was read")
		} else {
			contains(t, err.Error(), path)
		}
	})
}
