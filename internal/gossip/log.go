package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
)

// listLog passes memberlist's lines on to slog until it is muted. It is muted at
// shutdown, because memberlist does not wait for a probe under way, whose failure
// should not be logged. Errors become warnings: in a ring whose members come and
// go they are normal, and nobody has to act on them.
type listLog struct {
	log *slog.Logger

	mu    sync.Mutex // costs nothing: package log locks around Write anyway
	muted bool
}

func (w *listLog) logger() *log.Logger { return log.New(w, "", 0) }

// mute drops all later lines. It waits for a line that is being written.
func (w *listLog) mute() {
	w.mu.Lock()
	w.muted = true
	w.mu.Unlock()
}

// Write implements io.Writer. Package log calls it once per line.
func (w *listLog) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.muted {
		return len(line), nil
	}
	level, text := slog.LevelInfo, strings.TrimSpace(string(line))
	for _, p := range []struct {
		prefix string
		level  slog.Level
	}{
		{"[DEBUG] ", slog.LevelDebug}, {"[INFO] ", slog.LevelInfo}, {"[WARN] ", slog.LevelWarn},
		{"[ERR] ", slog.LevelWarn}, {"[ERROR] ", slog.LevelWarn},
	} {
		if rest, ok := strings.CutPrefix(text, p.prefix); ok {
			level, text = p.level, rest
			break
		}
	}
	w.log.Log(context.Background(), level, "memberlist", "text", strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}
