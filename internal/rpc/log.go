package rpc

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/grpclog"
)

// LogTo sends the gRPC library's own log to log. The library has one log for the
// whole process, so call LogTo before anything else of this package. Without it,
// the library writes errors to stderr. A later call takes the earlier one's place.
func LogTo(log *slog.Logger) {
	library.to.Store(log.With("component", "grpc"))
	setLibrary()
}

var library libraryLog

// setLibrary sets the library's log once: the library does not lock it, and may still
// use it after a connection was closed.
var setLibrary = sync.OnceFunc(func() { grpclog.SetLoggerV2(&library) })

// libraryLog is a grpclog.LoggerV2. Most errors of the library are broken
// connections, which we log where they matter.
type libraryLog struct{ to atomic.Pointer[slog.Logger] }

func (l *libraryLog) warn(text string) { l.to.Load().Warn(strings.TrimSpace(text)) }

func (l *libraryLog) debug(text string) { l.to.Load().Debug(strings.TrimSpace(text)) }

func (l *libraryLog) Info(...any)                 {}
func (l *libraryLog) Infoln(...any)               {}
func (l *libraryLog) Infof(string, ...any)        {}
func (l *libraryLog) Warning(a ...any)            { l.debug(fmt.Sprint(a...)) }
func (l *libraryLog) Warningln(a ...any)          { l.debug(fmt.Sprintln(a...)) }
func (l *libraryLog) Warningf(f string, a ...any) { l.debug(fmt.Sprintf(f, a...)) }
func (l *libraryLog) Error(a ...any)              { l.warn(fmt.Sprint(a...)) }
func (l *libraryLog) Errorln(a ...any)            { l.warn(fmt.Sprintln(a...)) }
func (l *libraryLog) Errorf(f string, a ...any)   { l.warn(fmt.Sprintf(f, a...)) }

// The library calls Fatal when it cannot go on and wants the process to end.
func (l *libraryLog) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (l *libraryLog) Fatalln(a ...any)          { panic(fmt.Sprintln(a...)) }
func (l *libraryLog) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// V reports whether messages of a verbosity level are wanted.
func (l *libraryLog) V(int) bool { return false }
