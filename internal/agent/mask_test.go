package agent

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func TestMask(t *testing.T) {
	for _, tc := range []struct {
		name     string
		env      []string
		in, want string
	}{
		{"nothing to mask", nil, "plain text", "plain text"},
		{"a key", []string{"sk-12345"}, "bad key sk-12345, sk-12345!", "bad key ***, ***!"},
		{"a part of a word", []string{"hunter2"}, "xhunter2y", "x***y"},
		{"short values are left", []string{"1", "on", "abc"}, "1 on abc 123", "1 on abc 123"},
		{"settings are left", []string{"true", "Debug", "production", "stdio", "8080", "3.14"}, "true Debug production stdio 8080 3.14", "true Debug production stdio 8080 3.14"},
		{"four characters", []string{"s3cr"}, "is s3cr right", "is *** right"},
		{"long numbers", []string{"123456"}, "pin 123456", "pin ***"},
		{"the longest wins", []string{"secret", "secret-and-more"}, "secret-and-more secret", "*** ***"},
		{"overlapping", []string{"abcdef", "defghi"}, "_abcdefghi_", "_***_"},
		{"adjacent", []string{"abcdef", "ghijkl"}, "abcdefghijkl", "***"},
		{"several lines", []string{"-----BEGIN-----\nline one\nline two\n"}, "read line two of -----BEGIN-----", "read *** of ***"},
		{"as JSON writes it", []string{"a\"b\\c\nd"}, `{"key":"a\"b\\c\nd"}`, `{"key":"***"}`},
		{"as a URL writes it", []string{"p@ss word/1"}, "https://u:p%40ss+word%2F1@h p%40ss%20word%2F1", "https://u:***@h ***"},
		{"as base64 writes it", []string{"correct horse"}, "Basic Y29ycmVjdCBob3JzZQ==", "Basic ***=="},
		{"as Python's json writes it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "\"p@ss w0rd/\\u00e4\\u00f6\\ud83d\\ude00\\\"q\\\\x<&\"", "\"***\""},
		{"as JavaScript's JSON writes it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "\"p@ss w0rd/äö😀\\\"q\\\\x<&\"", "\"***\""},
		{"as Python shows it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "'p@ss w0rd/äö😀\"q\\\\x<&'", "'***'"},
		{"as Python's quote writes it", []string{"p@ss w0rd/äö😀\"q\\x<&"}, "?k=p%40ss%20w0rd/%C3%A4%C3%B6%F0%9F%98%80%22q%5Cx%3C%26", "?k=***"},
		{"as encodeURIComponent writes it", []string{"it's (a) *key*!"}, "k=it's%20(a)%20*key*!", "k=***"},
		{"as encodeURI writes it", []string{"a/b?c=d&e f"}, "http://h/a/b?c=d&e%20f", "http://h/***"},
		{"in base64 after u:", []string{"correct horse"}, "Basic dTpjb3JyZWN0IGhvcnNl", "Basic dTp***"},
		{"in base64 after me:", []string{"correct horse"}, "Basic bWU6Y29ycmVjdCBob3JzZQ==", "Basic bWU6***=="},
		{"in base64 after you:", []string{"correct horse"}, "Basic eW91OmNvcnJlY3QgaG9yc2U=", "Basic eW91Om***U="},
		{"a mask is no secret", []string{"***"}, "a *** b", "a *** b"},
		{"white space around it", []string{" padded-key \n"}, "key padded-key.", "key ***."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{}
			for i, v := range tc.env {
				env[string(rune('A'+i))] = v
			}
			if got := newMasker(env).text(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// However a text is cut, no part of a secret worth the name is left of it.
func TestMaskCut(t *testing.T) {
	const secret = "sk-0123456789abcdef"
	m := newMasker(map[string]string{"KEY": secret, "OTHER": "9abcdefXYZ"})
	for _, text := range []string{
		"the key " + secret + " was refused, and much more is said of it here",
		strings.Repeat(secret, 20),
		strings.Repeat(secret+" ", 20),
		secret + "XYZ" + strings.Repeat("x", 100),
	} {
		for n := range len(text) {
			got := m.cut(text, n)
			for from := range len(secret) - minSecret {
				if part := secret[from : from+minSecret]; strings.Contains(got, part) {
					t.Fatalf("cut after %d of %q: %q has %q", n, text, got, part)
				}
			}
			if len(got) > n+len("...") {
				t.Fatalf("cut after %d: %d bytes", n, len(got))
			}
		}
	}
	if got := m.partial("the key is sk-0123"); got != "the key is ***" {
		t.Errorf("got %q", got)
	}
	if got := m.cut("short", 100); got != "short" {
		t.Errorf("got %q", got)
	}
}

func TestMaskedLog(t *testing.T) {
	var out strings.Builder
	m := newMasker(map[string]string{"KEY": "hunter2"})
	log := slog.New(m.handler(slog.NewTextHandler(&out, nil))).With("at", "hunter2").WithGroup("g")
	log.Info("said", "line", "it is hunter2", "error", errors.New("bad hunter2"), slog.Group("in", "x", "hunter2"), "n", 7)
	if got := out.String(); strings.Contains(got, "hunter2") || strings.Count(got, "***") != 4 || !strings.Contains(got, "g.n=7") {
		t.Errorf("logged %s", got)
	}
}

// Every text that quotes a server masks the values of its env. Only its answers
// are passed on as they are.
func TestSecretsAreMaskedEverywhere(t *testing.T) {
	const secret, line2 = "sk-live-0123456789", "second-line-of-it"
	env := map[string]string{"API_KEY": secret, "PEM": "first\n" + line2, "PORT": "8080"}
	for _, tc := range []struct {
		name   string
		server agenttest.Server
		want   []string
	}{
		{"stderr", agenttest.Echo{ExitAtOnce: 1, Complaint: "port 8080: bad key " + secret + "\nand " + line2}.Serve,
			[]string{"last stderr: port 8080: bad key *** | and ***"}},
		{"stdout", says("key="+secret, strings.Repeat("x", 190)+secret), []string{"key=***", "xxx***"}},
		{"an error", says(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"invalid key ` + secret + `"}}`), []string{"invalid key ***"}},
		{"a wrong id", says(`{"jsonrpc":"2.0","id":"` + secret + `","result":{}}`), []string{"never sent, id \"***\""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var out syncBuffer
				r := newRig(t, agenttest.New(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&out, nil)) })
				r.rt.Handle("a", tc.server)
				r.start("a", func(tpl *fleet.Template) { tpl.Env = env })
				got := r.until("a", fleet.PhaseFailed)
				contains(t, got.Reason, tc.want...)
				logs := strings.Join(r.logs("a"), "\n")
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				for where, text := range map[string]string{"reason": got.Reason, "last lines": strings.Join(got.Log, "\n"), "logs": logs, "worker's log": out.String()} {
					if strings.Contains(text, secret[:8]) || strings.Contains(text, line2) {
						t.Errorf("the %s shows the secret: %s", where, text)
					}
				}
			})
		})
	}
	t.Run("the runtime's words", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			r := newRig(t, agenttest.New(), nil)
			r.rt.Inject(agenttest.Fault{Step: agenttest.StepStart, Err: errors.New("podman run: bad value " + secret)})
			r.start("a", func(tpl *fleet.Template) { tpl.Env = env })
			if got := r.until("a", fleet.PhaseFailed); got.Reason != "podman run: bad value ***" {
				t.Errorf("reason %q", got.Reason)
			}
		})
	})
	t.Run("our own words are not masked", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			var out syncBuffer
			r := newRig(t, agenttest.New(), func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&out, nil)) })
			r.rt.Handle("a", agenttest.Echo{ExitAtOnce: 3, Complaint: "mode exit: code red"}.Serve)
			r.start("a", func(tpl *fleet.Template) { tpl.Env = map[string]string{"MODE": "exit", "COLOUR": "code"} })
			const want = "ended before it was ready: exit code 3; last stderr: mode ***: *** red"
			if got := r.until("a", fleet.PhaseFailed); got.Reason != want {
				t.Errorf("reason %q, want %q", got.Reason, want)
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			contains(t, out.String(), want)
		})
	})
	t.Run("an answer is left as it is", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			r := newRig(t, agenttest.New(), nil)
			r.ready("a", func(tpl *fleet.Template) { tpl.Env = env })
			if got := r.call("a", "echo", `{"text":"`+secret+`"}`).text(t); got != secret {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("a line too long to keep", func(t *testing.T) {
		ring := newStderrRing()
		text := strings.Repeat("x", maxLine-10) + secret + strings.Repeat("y", maxLine)
		pumpStderr(strings.NewReader(text+"\n"), ring, newMasker(env), slog.New(slog.DiscardHandler))
		if got := ring.last(1, 1<<20, true); len(got) != 1 || !strings.HasSuffix(got[0], "x***") {
			t.Errorf("kept %q", got[0][maxLine-20:])
		}
	})
}

// syncBuffer is a log that may be written from anywhere.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
