package proctab

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestOwnerSurvivesItsString(t *testing.T) {
	o, err := NewOwner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got, ok := ParseOwner(o.String())
	if !ok || got != o {
		t.Fatalf("ParseOwner(%q) = %+v, %v; want %+v", o, got, ok, o)
	}
	for _, bad := range []string{"", "a.b", "a.b.x.1.boot.2", "...1..", o.String() + ".more"} {
		if _, ok := ParseOwner(bad); ok {
			t.Errorf("ParseOwner(%q) accepted", bad)
		}
	}
}

func TestOutlived(t *testing.T) {
	dir := t.TempDir()
	before, err := NewOwner(dir)
	if err != nil {
		t.Fatal(err)
	}
	me, err := NewOwner(dir)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewOwner(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	gone := stranger
	gone.Proc.Start++ // another process has the pid
	oldBoot := stranger
	oldBoot.Boot = "another"
	elsewhere := stranger
	elsewhere.NS = 1
	fromContainer := me
	fromContainer.NS = 2
	for _, c := range []struct {
		name      string
		me, other Owner
		want      bool
		linux     bool
	}{
		{"itself", me, me, false, false},
		{"earlier life of the data directory", me, before, true, false},
		{"living worker with another directory", me, stranger, false, false},
		{"dead worker whose pid is used again", me, gone, true, true},
		{"before the last boot", me, oldBoot, true, false},
		{"in a namespace that cannot be seen", fromContainer, elsewhere, false, false},
	} {
		if c.linux && runtime.GOOS != "linux" {
			continue
		}
		if got := c.me.Outlived(c.other); got != c.want {
			t.Errorf("%s: Outlived = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFamily(t *testing.T) {
	table := []Process{
		{ID: ID{5, 1}, Parent: 4}, {ID: ID{2, 1}, Parent: 1}, {ID: ID{3, 1}, Parent: 2}, {ID: ID{4, 1}, Parent: 3}, {ID: ID{9, 1}, Parent: 1},
	}
	got := Family(table, map[int]bool{3: true, 77: true})
	want := []ID{{5, 1}, {3, 1}, {4, 1}}
	if !slices.Equal(got, want) {
		t.Fatalf("Family = %v, want %v", got, want)
	}
}

func TestSignalSparesAnotherProcessWithThePid(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("start times are known on Linux only")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p, ok := Find(cmd.Process.Pid)
	if !ok || p.Parent != os.Getpid() {
		t.Fatalf("Find = %+v, %v", p, ok)
	}
	other := p.ID
	other.Start--
	if err := Signal(other, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Fatal("a process was killed for another that had its pid")
	}
	if err := Signal(p.ID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := WaitGone(ctx, p.ID); err != nil { // a zombie: nobody has waited for it
		t.Fatal(err)
	}
	if err := Signal(p.ID, syscall.SIGKILL); err != nil {
		t.Fatalf("signal to a dead process: %v", err)
	}
}

// A process may fork and end while the table is read. Then neither it nor its
// child is found, and the next read finds the child.
func TestKillAllLooksTwice(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	p, ok := Find(cmd.Process.Pid)
	if !ok {
		t.Fatal("the process is not in the table")
	}
	looks := 0
	killed, err := KillAll(t.Context(), func() []ID {
		if looks++; looks == 2 {
			return []ID{p.ID}
		}
		return nil
	})
	if err != nil || !slices.Equal(killed, []int{p.PID}) || looks != 4 {
		t.Fatalf("KillAll = %v, %v after %d looks; want %d killed, and two looks that find nothing at last", killed, err, looks, p.PID)
	}
}

func TestKillAllKillsWhatForksMeanwhile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	cmd := exec.Command("sh", "-c", "(sleep 60 & sleep 60) & echo up; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	var seen []ID
	killed, err := KillAll(ctx, func() []ID {
		ids := Family(Table(), map[int]bool{cmd.Process.Pid: true})
		seen = append(seen, ids...)
		return slices.DeleteFunc(slices.Clone(seen), func(id ID) bool { return !id.Alive() })
	})
	if err != nil || !slices.Contains(killed, cmd.Process.Pid) {
		t.Fatalf("KillAll = %v, %v", killed, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the shell was not killed")
	}
}
