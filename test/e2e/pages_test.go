//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// page is an example in the documentation that a user follows.
type page struct {
	t    testing.TB
	text string
	user *User
	home string // the user's directory, with the programs in bin
	up   *Up    // nil: not started yet
}

// openPage reads the example under a heading of a page.
func openPage(t testing.TB, name, heading string) *page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("%s has no %q", name, heading)
	}
	example, _, _ = strings.Cut(example, "\n## ")
	p := &page{t: t, text: example, user: newUser(t), home: t.TempDir()}
	if err := os.Symlink(bin, filepath.Join(p.home, "bin")); err != nil {
		t.Fatal(err)
	}
	return p
}

// pageParts are the blocks of a page with their languages, and commands of programs
// within its text.
var pageParts = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```$|`((?:bin/mcpfleet|sort) [^`]+)`")

// parts returns the blocks in a language, in order. Commands within the text count as
// blocks for a shell. There must be n.
func (p *page) parts(language string, n int) (texts []string) {
	p.t.Helper()
	for _, m := range pageParts.FindAllStringSubmatch(p.text, -1) {
		switch {
		case m[3] != "" && language == "sh":
			texts = append(texts, m[3])
		case m[3] == "" && m[1] == language:
			texts = append(texts, m[2])
		}
	}
	if len(texts) != n {
		p.t.Fatalf("the example has %d blocks of %q, want %d: %q", len(texts), language, n, texts)
	}
	return texts
}

// commands returns what the example runs, in order. There must be n scripts.
func (p *page) commands(n int) []string {
	p.t.Helper()
	return p.parts("sh", n)
}

// outputs returns the lines of each output that the example shows. There must be n.
func (p *page) outputs(n int) (blocks [][]string) {
	p.t.Helper()
	for _, text := range p.parts("", n) {
		blocks = append(blocks, linesOf(text))
	}
	return blocks
}

// save writes the only file that the example shows.
func (p *page) save(name string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.home, name), []byte(p.parts("yaml", 1)[0]), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// linesOf returns the lines of a text that are not empty, with single spaces.
func linesOf(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	return lines
}

// starts runs the script if it is the one that starts the cluster, as printed, but
// with another port. It reports whether it was.
func (p *page) starts(script string) bool {
	p.t.Helper()
	_, args, is := strings.Cut(strings.TrimSpace(script), "bin/mcpfleet up ")
	if is {
		file, options, _ := strings.Cut(args, " ")
		p.up = p.user.up(append([]string{filepath.Join(p.home, file), "--http", "127.0.0.1:0"}, strings.Fields(options)...)...)
	}
	return is
}

// shell prepares a script as printed, apart from the port.
func (p *page) shell(script string) *exec.Cmd {
	env := environ()
	if p.up != nil {
		script = strings.ReplaceAll(script, "http://127.0.0.1:8000", p.up.Base)
		env = append(env, "MCPFLEET_ADDRESS="+p.up.Base)
	}
	cmd := exec.CommandContext(p.t.Context(), "sh", "-c", script)
	cmd.Dir, cmd.Env = p.home, env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// run runs a script and returns what it prints. It does not wait for what the script
// leaves in the background.
func (p *page) run(script string) string {
	p.t.Helper()
	name := filepath.Join(p.user.dir, "script.out")
	out, err := os.Create(name)
	if err != nil {
		p.t.Fatal(err)
	}
	defer out.Close()
	cmd := p.shell(script)
	cmd.Stdout, cmd.Stderr = out, out
	began := time.Now()
	err = cmd.Run()
	if cmd.Process != nil && syscall.Kill(-cmd.Process.Pid, 0) == nil {
		p.t.Cleanup(func() {
			if p.t.Failed() { // else it has ended
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			}
		})
	}
	printed, readErr := os.ReadFile(name)
	if readErr != nil {
		p.t.Fatal(readErr)
	}
	p.t.Logf("%s\nafter %s (%v):\n%s", script, since(began), err, printed)
	return string(printed)
}
