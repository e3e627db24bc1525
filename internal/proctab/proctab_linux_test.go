package proctab

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// A start returns when the new program has replaced the old one. The kernel shows
// its environment and command line a moment later, which takes longer for large
// ones.
func TestKnowsWhatIsWithinExec(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PROCTAB_TEST=sleep 60"}
	for i := range 50_000 {
		env = append(env, strconv.Itoa(i)+"=")
	}
	for name, ask := range map[string]func(pid int) string{
		"environ": func(pid int) string { v, _ := Getenv(pid, "PROCTAB_TEST"); return v },
		"cmdline": func(pid int) string { return strings.Join(Cmdline(pid), " ") },
	} {
		for range 20 {
			p, err := os.StartProcess(sleep, []string{"sleep", "60"}, &os.ProcAttr{Env: env})
			if err != nil {
				t.Fatal(err)
			}
			got := ask(p.Pid)
			p.Kill()
			p.Wait()
			if got != "sleep 60" {
				t.Errorf("%s right after the start = %q, want %q", name, got, "sleep 60")
			}
		}
	}
}

// A program without arguments and environment is not waited for.
func TestEmptyEnvironmentIsNotWaitedFor(t *testing.T) {
	cmd := exec.Command("cat")
	cmd.Env = []string{}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	io.WriteString(in, "up\n")
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if mayFill(cmd.Process.Pid, "environ") {
		t.Error("an empty environment is waited for")
	}
	const kthreadd = 2 // if it is visible
	if p, ok := Find(kthreadd); ok && p.Parent == 0 && mayFill(kthreadd, "cmdline") {
		t.Error("a kernel thread is waited for")
	}
}

// Killed returns true if nothing is known, so that no call is cleared.
func TestOOMWatch(t *testing.T) {
	if !(OOMWatch{}).Killed() {
		t.Error("nothing is known, and the kernel has killed nothing")
	}
	if w := WatchOOM(os.Getpid()); w.Killed() {
		t.Errorf("%+v: killed at once", w)
	}
}
