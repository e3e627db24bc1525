package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/store"
)

// aBackup is a backup of one server.
func aBackup(t *testing.T) string {
	t.Helper()
	var st *desired.State
	for i, c := range []desired.Command{
		desired.BeginTenure{Controller: "c", Name: "c", Cluster: "abcd", Expect: 1},
		desired.PutServer{Name: "web", Spec: fleet.Spec{Template: fleet.Template{Image: "w:1", Env: map[string]string{"KEY": "s3cret"}}, Replicas: 2}},
	} {
		r := st.Apply(uint64(i+1), 1, desired.Entry{Time: time.Unix(1e9, 0), Command: c})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		st = r.State
	}
	var b bytes.Buffer
	if err := store.WriteBackup(&b, st, store.BackupMeta{TakenAt: time.Unix(1e9, 0), Version: "v7"}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBackup(t *testing.T) {
	whole := aBackup(t)
	f := newFakeAPI(t).on("GET /api/v1/backup", 200, whole).on("GET /api/v1/backup?stale=1", 200, whole)
	t.Setenv("MCPFLEET_OUTPUT", "json") // not the name of a file
	dir := t.TempDir()
	t.Chdir(dir)
	execute(t, f.URL, "", "backup", "-o", "a.backup").wants(t, 0, "wrote a.backup: 1 servers of cluster abcd, as of index 2\n", "")
	if info, err := os.Stat("a.backup"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if got, err := os.ReadFile("a.backup"); err != nil || string(got) != whole {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(whole))
	}

	if err := os.WriteFile("mine", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	execute(t, f.URL, "", "backup", "-o", "mine").wants(t, 1, "", "mine exists already; a backup overwrites nothing")
	if got, _ := os.ReadFile("mine"); string(got) != "precious" {
		t.Errorf("overwrote it with %q", got)
	}

	execute(t, f.URL, "", "backup", "--stale").wants(t, 0, "wrote mcpfleet-abcd-20010909T014640Z.backup: 1 servers of cluster abcd, as of index 2\n", "")
	execute(t, f.URL, "", "backup", "-o", "-").wants(t, 0, whole, "")

	cut := newFakeAPI(t).on("GET /api/v1/backup", 200, whole[:len(whole)-20])
	execute(t, cut.URL, "", "backup", "-o", "cut").wants(t, 1, "", "the controller did not send a complete backup: backup is cut off")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "a.backup mcpfleet-abcd-20010909T014640Z.backup mine"; got != want {
		t.Errorf("the directory has %s, want %s", got, want)
	}
}

// A file that appeared meanwhile is not overwritten.
func TestWriteNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := writeNew(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := writeNew(path, []byte("two")); err == nil || !strings.Contains(err.Error(), "overwrites nothing") {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestInspect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.backup")
	if err := os.WriteFile(path, []byte(aBackup(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1e9, 0).Local().Format(time.RFC3339)
	execute(t, "", "", "backup", "inspect", path).wants(t, 0, "cluster abcd, incarnation 1, index 2, taken "+at+" by version v7\n\n"+
		"SERVER  REVISION  REPLICAS  RUNS\nweb     1         2         w:1\n", "")
	r := execute(t, "", aBackup(t), "backup", "inspect", "-", "-o", "json")
	var v backupView
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || len(v.Servers) != 1 || v.Servers[0].Spec.Env["KEY"] != fleet.Masked || strings.Contains(r.out, "s3cret") {
		t.Errorf("%v: %s", err, r.out)
	}
	execute(t, "", "x", "backup", "inspect", "-").wants(t, 1, "", "-: not a backup of mcpfleet")
}

func TestRestore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's new")
	path := filepath.Join(t.TempDir(), "x.backup")
	if err := os.WriteFile(path, []byte(aBackup(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := execute(t, "", "", "restore", path, "--data-dir", dir)
	if want := `controller --data-dir '` + strings.ReplaceAll(dir, "'", `'\''`) + `'`; r.code != 0 || !strings.Contains(r.out, want) {
		t.Errorf("%v; want %s in\n%s", r.err, want, r.out)
	}
	d, err := store.Prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d.Stateless() || d.Cluster() != "abcd" {
		t.Errorf("nothing was restored: cluster %q", d.Cluster())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, "", "", "restore", path, "--data-dir", dir).wants(t, 1, "", "has state already")
	execute(t, "", "", "restore", path).wants(t, 2, "", "--data-dir is missing")
	execute(t, "", "", "restore", filepath.Join(dir, "none"), "--data-dir", dir).wants(t, 1, "", "no such file")
}

func TestSchema(t *testing.T) {
	r := execute(t, "", "", "schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(r.out), &schema); err != nil || schema["$schema"] == nil {
		t.Errorf("%v: %s", err, r.out)
	}
}
