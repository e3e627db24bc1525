package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/controller"
	"github.com/mcpfleet/mcpfleet/internal/sink"
)

// A controller counts the log lines that it dropped for want of a reader in its
// metrics.
func TestDroppedLogLinesAreCounted(t *testing.T) {
	unread, log := io.Pipe()
	stderr := sink.New(sink.Config{Out: log, Buffer: 1})
	for range 3 { // the first fills the buffer, the others are dropped
		io.WriteString(stderr, "a line\n")
	}
	ctx, stop := context.WithCancel(t.Context())
	stdout, up := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"--name", "c", "--http", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--data-dir", t.TempDir(), "--shutdown-delay", "0s",
		}, up, stderr)
		up.Close()
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		unread.Close()
		stderr.Close(time.Second)
	}()
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var addr controller.Addresses
	if err := json.Unmarshal(line, &addr); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + addr.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || !regexp.MustCompile(`(?m)^mcpfleet_log_lines_dropped_total ([2-9]|[1-9]\d+)$`).Match(text) {
		t.Errorf("no count of dropped log lines in /metrics: %v\n%.3000s", err, text)
	}
}
