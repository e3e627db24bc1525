//go:build linux

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// startFleet starts a controller and a worker that runs plain processes, until
// the end of the test.
func startFleet(t *testing.T) *api.Client {
	t.Helper()
	bin, dir := buildPrograms(t), t.TempDir()
	type address struct{ HTTP, Gossip string }
	var at address
	start := func(name string, args ...string) address {
		t.Helper()
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd := exec.Command(filepath.Join(bin, name), append(args, "--data-dir", filepath.Join(dir, name))...)
		cmd.Stderr = log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		// The programs stop in order when this test is gone, however it ends.
		lifeline, held, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer lifeline.Close()
		cmd.ExtraFiles = []*os.File{lifeline}
		cmd.Args = append(cmd.Args, "--lifeline-fd", "3")
		stdout, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			held.Close()
			late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
			if err := cmd.Wait(); err != nil || !late.Stop() {
				t.Errorf("%s did not stop in order: %v", name, err)
			}
			if text, _ := os.ReadFile(log.Name()); t.Failed() && len(text) > 0 {
				t.Logf("end of the log of %s:\n%s", name, text[max(0, len(text)-3000):])
			}
		})
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err != nil {
			t.Fatalf("%s said nothing: %v", name, err)
		}
		if err := json.Unmarshal(line, &at); err != nil {
			t.Fatalf("%s said %s: %v", name, line, err)
		}
		return at
	}
	controller := start("controller", "--name", "c", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0")
	start("worker", "--name", "w", "--runtime", "process", "--join", controller.Gossip)
	client, err := api.NewClient(controller.HTTP, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func buildPrograms(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin+"/", "./cmd/controller", "./cmd/worker")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return bin
}

// command is how a user's client would start a package's program.
func (s *server) command(packages, dir string) ([]string, error) {
	root := filepath.Join(packages, "node_modules", s.Package)
	b, err := os.ReadFile(filepath.Join(root, "package.json"))
	if err != nil {
		return nil, err
	}
	var p struct{ Bin json.RawMessage }
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("package.json of %s: %w", s.Package, err)
	}
	var only string
	var named map[string]string
	switch {
	case json.Unmarshal(p.Bin, &only) == nil:
	case json.Unmarshal(p.Bin, &named) == nil && s.Bin != "":
		only = named[s.Bin]
	case len(named) == 1:
		for _, only = range named {
		}
	}
	if only == "" {
		return nil, fmt.Errorf("%s has no program %q: %s", s.Package, s.Bin, p.Bin)
	}
	return append([]string{"node", filepath.Join(root, only)}, inDir(s.Args, dir)...), nil
}

// getJSON decodes an answer as it came: the client of package api would drop
// members that it does not know.
func getJSON(ctx context.Context, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s", resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
