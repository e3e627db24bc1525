package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
)

// listLog routes memberlist's lines to slog until it is muted: memberlist's
// shutdown does not wait for a probe that is under way, and nobody should hear
// of that one's end. Its errors become warnings: in a ring whose members come
// and go they are the network's weather, and none asks for anything to be done.
type listLog struct {
	log *slog.Logger

	mu    sync.Mutex // package log holds one of its own around Write in any case
	muted bool
}

func (w *listLog) logger() *log.Logger { return log.New(w, "", 0) }

// mute returns once no line is being written, and none will be.
func (w *listLog) mute() {
	w.mu.Lock()
	w.muted = true
	w.mu.Unlock()
}

// Write takes one line, as package log promises.
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
