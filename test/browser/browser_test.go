package browser

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleettest"
)

//go:embed attack.html
var attack string

// patience is how long a page may take for all its attempts. Chromium is slow on a
// busy machine.
const patience = 3 * time.Minute

func needChromium(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skipf("chromium is installed by deploy/images/setup-host.sh, which needs Linux and root: this is %s, uid %d", runtime.GOOS, os.Geteuid())
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Fatalf("deploy/images/setup-host.sh installs it: %v", err)
	}
}

const file = "servers:\n  echo:\n    command: [echo]\n    replicas: 1\n"

// A page of another origin, and one whose name points to the controller after the
// page was loaded, read nothing and change nothing.
func TestPagesOfOthers(t *testing.T) {
	needChromium(t)
	c := fleettest.Start(t, fleettest.Options{Workers: 1, File: file})
	c.AwaitReady(1)
	before := stateOf(t, c)
	for name, seen := range map[string]map[string]string{
		"another site":              visit(t, "evil.example", "http://"+c.HTTP()),
		"another port of this site": visit(t, "127.0.0.1", "http://"+c.HTTP()),
		"another port of localhost": visit(t, "localhost", strings.Replace("http://"+c.HTTP(), "127.0.0.1", "localhost", 1)),
		"a name of its own":         visit(t, "evil.example", strings.Replace("http://"+c.HTTP(), "127.0.0.1", "rebound.example", 1)),
		"a name that was its own":   visitRebound(t, c.HTTP()),
	} {
		if len(seen) < 15 {
			t.Errorf("%s: the page tried only %v", name, seen)
		}
		for tried, got := range seen {
			opaque := got == "0 " // the browser hides the answer from the page
			refused := strings.HasPrefix(got, "403 ") && strings.Contains(got, `"code":"forbidden"`)
			if !strings.HasPrefix(got, "nothing: ") && !opaque && !refused {
				t.Errorf("%s: %s gave the page %s", name, tried, got)
			}
		}
	}
	if after := stateOf(t, c); after != before {
		t.Errorf("the pages left %s, before it was %s", after, before)
	}
}

// The same pages do harm to a controller that is configured to accept them. So
// their attempts are real ones.
func TestPagesThatAreAllowed(t *testing.T) {
	needChromium(t)
	c := fleettest.Start(t, fleettest.Options{Workers: 1, File: file, AllowedHosts: []string{"*", "evil.example"}})
	c.AwaitReady(1)
	before := stateOf(t, c)
	visit(t, "evil.example", "http://"+c.HTTP())
	if after := stateOf(t, c); after == before {
		t.Errorf("a page of another site has not changed %s", before)
	}
	seen := visitRebound(t, c.HTTP())
	for _, tried := range []string{"GET tools", "POST restart", "POST call as application/json", "PUT a command", "DELETE", "frame"} {
		if !strings.HasPrefix(seen[tried], "20") {
			t.Errorf("a page with a rebound name: %s gave %q", tried, seen[tried])
		}
	}
}

// stateOf returns the state that pages must not change.
func stateOf(t *testing.T, c *fleettest.Cluster) string {
	t.Helper()
	list, err := c.List(t.Context(), api.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	replicas, err := c.Replicas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range list.Servers {
		out = append(out, fmt.Sprintf("%s: generation %d, etag %s", s.Name, s.Generation, s.ETag))
	}
	for _, r := range replicas {
		out = append(out, fmt.Sprintf("%s: %d calls", r.ID, r.TotalCalls))
	}
	return strings.Join(out, "; ")
}

// reportServer serves the URL to which a page reports.
func reportServer(t *testing.T) (url string, heard <-chan map[string]string) {
	t.Helper()
	reports := make(chan map[string]string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var seen map[string]string
		if body, err := io.ReadAll(r.Body); err == nil && json.Unmarshal(body, &seen) == nil {
			reports <- seen
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, reports
}

func page(target, report, flip string) http.HandlerFunc {
	text := strings.NewReplacer(`"TARGET"`, quote(target), `"REPORT"`, quote(report), `"FLIP"`, quote(flip)).Replace(attack)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, text)
	}
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

// visit opens a page of a host in a browser, and returns what the page could read
// of the target.
func visit(t *testing.T, host, target string) map[string]string {
	t.Helper()
	report, heard := reportServer(t)
	srv := httptest.NewServer(page(target, report, ""))
	defer srv.Close()
	return browse(t, strings.Replace(srv.URL, "127.0.0.1", host, 1), heard)
}

// visitRebound opens a page of a host whose name points to the controller once the
// page is loaded. For the browser both have the same origin. The test redirects one
// of its ports instead of changing the name, which is the same for the browser.
func visitRebound(t *testing.T, controller string) map[string]string {
	t.Helper()
	report, heard := reportServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var flipped atomic.Bool
	name := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { flipped.Store(true) }))
	defer name.Close()
	site := httptest.NewServer(nil)
	at := strings.Replace("http://"+l.Addr().String(), "127.0.0.1", "rebound.example", 1)
	site.Config.Handler = page(at, report, name.URL)
	site.Config.SetKeepAlivesEnabled(false)
	defer site.Close()

	var pipes sync.WaitGroup
	defer pipes.Wait()
	defer l.Close()
	pipes.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			pipes.Go(func() {
				defer conn.Close()
				// The browser connects before it has a request. The time of the request decides.
				in := bufio.NewReader(conn)
				if _, err := in.Peek(1); err != nil {
					return
				}
				to := site.Listener.Addr().String()
				if flipped.Load() {
					to = controller
				}
				pipe(conn, in, to)
			})
		}
	})
	return browse(t, at, heard)
}

// pipe copies both ways, from the connection by in, until both have ended.
func pipe(conn net.Conn, in io.Reader, to string) {
	other, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer other.Close()
	var both sync.WaitGroup
	copyTo := func(dst net.Conn, src io.Reader) {
		both.Go(func() {
			_, _ = io.Copy(dst, src)
			_ = dst.(*net.TCPConn).CloseWrite()
		})
	}
	copyTo(other, in)
	copyTo(conn, other)
	both.Wait()
}

// browse runs a new browser until its page has reported.
func browse(t *testing.T, url string, heard <-chan map[string]string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+filepath.Join(dir, "profile"),
		"--host-resolver-rules=MAP *.example 127.0.0.1, MAP localhost 127.0.0.1", url)
	cmd.Env = append(os.Environ(), "HOME="+dir, "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	runtime.LockOSThread() // the death signal is sent when this thread ends
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	select {
	case seen := <-heard:
		return seen
	case <-ctx.Done():
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("the page at %s reported nothing within %v; chromium says:\n%s", url, patience, text)
		return nil
	}
}
