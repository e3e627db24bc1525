package agent

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/agent/agenttest"
	"github.com/mcpfleet/mcpfleet/internal/bubble"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// logged collects log lines as JSON.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

// about returns the lines of the request.
func (l *logged) about(t *testing.T, requestID string) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for raw := range strings.Lines(l.buf.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(raw), &line); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if line["request_id"] == requestID {
			lines = append(lines, line)
		}
	}
	return lines
}

// Every call leaves a line with the ids that its client can quote.
func TestCallsAreLogged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := new(logged)
		r := newRig(t, agenttest.New(), func(c *Config) {
			c.MaxReply = 1 << 20
			c.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		})
		r.ready("a", nil)
		for _, tc := range []struct {
			tool, args string
			end        func(*caller) // nil: the server does
			level, err string
		}{
			{"slow", `{"ms":2000}`, nil, "DEBUG", ""},
			{"bad", `{}`, nil, "INFO", fleet.ErrBadReply.Error()},
			{"big", `{"bytes":2000000}`, nil, "INFO", fleet.ErrReplyTooLarge.Error()},
			{"hang", `{}`, func(c *caller) { time.Sleep(2 * time.Second); c.cancel(true) }, "INFO", fleet.ErrTimeout.Error()},
			{"freeze", `{"ms":2000}`, func(c *caller) { time.Sleep(time.Second); c.cancel(false) }, "DEBUG", "context canceled"},
			{"crash", `{}`, nil, "INFO", fleet.ErrReplicaLost.Error()},
			{"echo", `{}`, nil, "DEBUG", "it"}, // takes no calls, or is not there any more
		} {
			began := time.Now()
			c := r.call("a", tc.tool, tc.args)
			if tc.end != nil {
				tc.end(c)
			}
			c.reply(t)
			var line map[string]any
			for _, l := range log.about(t, "request-"+tc.tool) {
				switch l["msg"] {
				case "call ended", "call not delivered":
					if line != nil {
						t.Errorf("%s: its end is logged twice", tc.tool)
					}
					line = l
				}
			}
			text, _ := line["err"].(string)
			if line["level"] != tc.level || !strings.HasPrefix(text, tc.err) || (text == "") != (tc.err == "") ||
				line["traceparent"] != "00-"+tc.tool || line["replica"] != "a" || line["method"] != "tools/call" {
				t.Errorf("%s: the line is %v, want level %s, err %q", tc.tool, line, tc.level, tc.err)
			}
			if took, ok := line["took"].(float64); ok && time.Duration(took) != time.Since(began) {
				t.Errorf("%s: took %v, want %v", tc.tool, time.Duration(took), time.Since(began))
			}
			if tc.tool == "crash" {
				r.until("a", fleet.PhaseFailed)
			}
		}
		// The conversation names the call, too, whose reply it could not read.
		if lines := log.about(t, "request-bad"); len(lines) != 2 || lines[0]["msg"] != "malformed reply" && lines[1]["msg"] != "malformed reply" {
			t.Errorf("lines about the malformed reply: %v", lines)
		}
	})
}
