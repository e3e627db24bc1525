package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// hclogger passes raft's log on to ours, one level lower: what matters of raft
// we say ourselves, in our words. A message is repeated at its level at most
// once a minute for the same peer, and at debug level else: raft reports a dead
// peer several times a second for as long as it is dead.
type hclogger struct {
	hclog.Logger // does nothing: what is not overridden below
	log          *slog.Logger
	recent       *recent
}

func newHCLog(log *slog.Logger) *hclogger {
	return &hclogger{hclog.NewNullLogger(), log, &recent{said: make(map[string]time.Time)}}
}

func (l *hclogger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Error:
		to = slog.LevelWarn
	case hclog.Warn:
		to = slog.LevelInfo
	}
	if to > slog.LevelDebug && l.recent.repeats(fmt.Sprint(msg, peer(args)), time.Now()) {
		to = slog.LevelDebug
	}
	if !l.log.Enabled(context.Background(), to) {
		return
	}
	for i := 1; i < len(args); i += 2 {
		if f, ok := args[i].(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	l.log.Log(context.Background(), to, "raft: "+msg, args...)
}

func peer(args []any) any {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "id", "server-id":
			return args[i+1]
		}
	}
	return ""
}

func (l *hclogger) Trace(string, ...any)          {}
func (l *hclogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *hclogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *hclogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *hclogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *hclogger) With(args ...any) hclog.Logger {
	return &hclogger{l.Logger, l.log.With(args...), l.recent}
}

func (l *hclogger) Named(string) hclog.Logger      { return l }
func (l *hclogger) ResetNamed(string) hclog.Logger { return l }

// recent remembers what was said within the last minute.
type recent struct {
	mu   sync.Mutex
	said map[string]time.Time
}

func (r *recent) repeats(what string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.said[what]; ok && now.Sub(at) < time.Minute {
		return true
	}
	if len(r.said) > 256 {
		clear(r.said) // peers come and go
	}
	r.said[what] = now
	return false
}

// quiet is for raft's functions that run while nothing else does: their errors
// say it all.
func quiet() *hclogger { return newHCLog(slog.New(slog.DiscardHandler)) }
