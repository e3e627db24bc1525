package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// hclogger passes raft's log messages on to our log. Errors become warnings, since
// raft tries again by itself. Everything else is logged at debug level: this package
// logs the important events itself. Raft reports a dead peer several times a second,
// so a repeated error about the same peer is a warning only every ten minutes.
type hclogger struct {
	hclog.Logger // a null logger, for methods that are not overridden below
	log          *slog.Logger
	recent       *recent
}

func newHCLog(log *slog.Logger) *hclogger {
	return &hclogger{hclog.NewNullLogger(), log, &recent{said: make(map[string]time.Time)}}
}

func (l *hclogger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Error && !l.recent.repeats(fmt.Sprint(msg, peer(args)), time.Now()) {
		to = slog.LevelWarn
	}
	if !l.log.Enabled(context.Background(), to) {
		return
	}
	for i := 1; i < len(args); i += 2 {
		switch v := args[i].(type) {
		case hclog.Format:
			if len(v) > 0 {
				args[i] = fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
			}
		case raft.Server:
			args[i] = v.ID // the address is a placeholder
		}
	}
	l.log.Log(context.Background(), to, "raft: "+msg, args...)
}

func peer(args []any) any {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "id", "target":
			if s, ok := args[i+1].(raft.Server); ok {
				return s.ID
			}
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

const repeatAfter = 10 * time.Minute

// recent remembers which messages were logged lately.
type recent struct {
	mu   sync.Mutex
	said map[string]time.Time
}

func (r *recent) repeats(what string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.said[what]; ok && now.Sub(at) < repeatAfter {
		return true
	}
	if len(r.said) > 256 {
		clear(r.said) // peers change
	}
	r.said[what] = now
	return false
}

// quiet returns a logger that discards everything. It is for functions of raft whose
// errors are reported by their callers.
func quiet() *hclogger { return newHCLog(slog.New(slog.DiscardHandler)) }
