package agent

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// Bounds of the lines of stdout that a reason quotes.
const (
	strayLines = 3
	strayBytes = 200
)

// strays collects the first lines that do not belong on a replica's stdout. The
// conversation's reader adds to it, and the supervisor reads it.
type strays struct {
	mu  sync.Mutex
	all []stdio.Stray
}

func (s *strays) add(one stdio.Stray) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
}

// begin forgets those of a process before the present one.
func (s *strays) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

func (s *strays) list() []stdio.Stray {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[:len(s.all):len(s.all)]
}

// strayLog returns a stray as a line of the replica's log.
func strayLog(s stdio.Stray) string {
	switch s.Kind {
	case stdio.StrayAnswer:
		return fleet.StdoutMark + "an answer to no request: " + s.Text
	case stdio.StrayBroken:
		return fleet.StdoutMark + "a malformed answer: " + s.Text
	case stdio.StrayEcho:
		return fleet.StdoutMark + "what it was sent: " + s.Text
	case stdio.StrayLine:
	}
	return fleet.StdoutMark + s.Text
}

// quoteStrays quotes lines of stdout for a reason. n is how many lines were not
// JSON-RPC.
func quoteStrays(all []stdio.Stray, n int64) string {
	if len(all) == 0 {
		return ""
	}
	var quoted []string
	for _, s := range all[:min(strayLines, len(all))] {
		text := strings.TrimSpace(s.Text)
		if len(text) > strayBytes {
			text = strings.ToValidUTF8(text[:strayBytes], "") + "..."
		}
		quoted = append(quoted, text)
	}
	where := "on its stdout"
	switch {
	case n == 1:
		where = "on its stdout, 1 line that is not JSON-RPC"
	case n > 1:
		where = fmt.Sprintf("on its stdout, %d lines that are not JSON-RPC", n)
	}
	return where + ": " + strings.Join(quoted, " | ")
}

var (
	// banner matches messages of servers that listen on a port.
	banner = regexp.MustCompile(`(?i)\b(listening|running|started|serving|available|ready|open|accepting|bound)\b.*(\bhttps?://|\bport\b|:\d{2,5}\b|\b0\.0\.0\.0\b|\blocalhost\b)` +
		`|\b(http|sse|streamable)\b.*\b(server|transport|mode|endpoint)\b` +
		`|\b(server|endpoint|transport)\b.*\b(http|https|sse|streamable)\b`)
	// bareBanner suffices on stdout, where an MCP server writes no such lines.
	bareBanner = regexp.MustCompile(`(?i)\b(server|app|application|service)\b.*\b(listening|running|started|ready|up)\b|^\s*(\* )?(listening|serving)\b`)
	notHTTP    = regexp.MustCompile(`(?i)\bstdio\b`)
)

// stdoutHint returns what may be wrong with a server that did not become ready, given
// its lines on stdout, or "". silent means that it never answered. Then stderr is
// considered too.
func stdoutHint(all []stdio.Stray, stderr []string, silent, image bool) string {
	var ids []string
	for _, s := range all {
		switch {
		case s.Kind == stdio.StrayEcho:
			return "it repeats what it is sent, as a terminal or cat does: leave out options such as -t"
		case s.Kind == stdio.StrayAnswer && s.ID == "":
			ids = append(ids, "none")
		case s.Kind == stdio.StrayAnswer:
			ids = append(ids, s.ID)
		case s.Kind == stdio.StrayLine && contentLength(s.Text):
			return "it frames messages with Content-Length headers, as language servers do; MCP over stdio is one JSON message a line"
		case s.Kind == stdio.StrayLine && isPieceOfJSON(s.Text):
			return "it prints its JSON over several lines; MCP over stdio is one JSON message a line, without indentation"
		case s.Kind == stdio.StrayLine && isBanner(s.Text, true):
			return httpHint(image)
		}
	}
	if len(ids) > 0 {
		return "its answers name requests that were never sent, id " + strings.Join(ids[:min(strayLines, len(ids))], ", ") +
			"; an answer must repeat the id of its request"
	}
	for _, line := range stderr {
		if silent && isBanner(line, false) {
			return httpHint(image)
		}
	}
	return ""
}

func httpHint(image bool) string {
	what := "the server"
	if image {
		what = "the image"
	}
	return what + " seems to have started its HTTP mode; look for a flag such as --stdio, `--transport stdio`, TRANSPORT=stdio"
}

func isBanner(line string, bare bool) bool {
	return !notHTTP.MatchString(line) && (banner.MatchString(line) || bare && bareBanner.MatchString(line))
}

func contentLength(line string) bool {
	return len(line) > len("content-length:") && strings.EqualFold(line[:len("content-length:")], "content-length:")
}

func isPieceOfJSON(line string) bool {
	line = strings.TrimSpace(line)
	return line == "{" || line == "[" || strings.HasPrefix(line, `"jsonrpc"`)
}
