package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// DefaultDiskTimeout is how long one write to raft's log may take before the
// disk counts as hung.
const DefaultDiskTimeout = 5 * time.Second

// standAgain is how long a controller waits, after its disk refused an entry, before
// it stands for election again.
const standAgain = 10 * time.Second

// operation is a kind of write to raft's disk.
type operation string

const (
	opAppend operation = "append to raft's log"
	opRemove operation = "remove entries from raft's log"
	opTerm   operation = "write raft's term or vote"
	opProbe  operation = "write a test value"
	opRetry  operation = "write raft's term until it succeeds"
)

// diskWatch times the writes to raft's disk and remembers which of them fail. On a
// hung disk neither the write nor raft's main loop returns, and the heartbeats go
// on: nobody else would notice.
type diskWatch struct {
	limit time.Duration
	log   *slog.Logger
	// onHang is called when the disk begins to hang, before hung is closed.
	onHang func()
	moved  func() // called when the disk's condition has changed

	mu      sync.Mutex
	writes  map[*diskWrite]struct{} // under way
	late    int                     // the number of them over the limit
	hung    chan struct{}           // closed while late > 0
	ended   time.Time               // when the last write succeeded
	failed  time.Time               // when an append last failed
	failing map[operation]diskFailure
	removed indexRange // entries removed from the log's end and not replaced yet
}

// indexRange is a range of the log, both ends included. The zero value is empty.
type indexRange struct{ from, to uint64 }

// diskWrite is one write that is under way.
type diskWrite struct {
	op    operation
	begun time.Time
	late  bool
	timer *time.Timer
}

// diskFailure is the first failure of an operation since it last succeeded.
type diskFailure struct {
	err error
	at  time.Time
}

func newDiskWatch(limit time.Duration, log *slog.Logger, onHang, moved func()) *diskWatch {
	return &diskWatch{
		limit: limit, log: log, onHang: onHang, moved: moved,
		writes: make(map[*diskWrite]struct{}), hung: make(chan struct{}), failing: make(map[operation]diskFailure),
	}
}

// do runs a write and returns its error.
func (w *diskWatch) do(op operation, write func() error) error {
	d := &diskWrite{op: op, begun: time.Now()}
	w.mu.Lock()
	w.writes[d] = struct{}{}
	d.timer = time.AfterFunc(w.limit, func() { w.overdue(d) })
	w.mu.Unlock()
	err := write()
	d.timer.Stop()
	w.end(d, err)
	return err
}

// overdue records that a write has not returned within the limit.
func (w *diskWatch) overdue(d *diskWrite) {
	w.mu.Lock()
	if _, running := w.writes[d]; !running || d.late {
		w.mu.Unlock()
		return
	}
	d.late = true
	w.late++
	first := w.late == 1
	w.mu.Unlock()
	if !first {
		return
	}
	w.log.Error("disk does not answer", "operation", string(d.op), "for", time.Since(d.begun).Round(time.Millisecond))
	w.onHang()
	w.mu.Lock()
	if w.late > 0 && !closed(w.hung) { // the disk may have answered meanwhile
		close(w.hung)
	}
	w.mu.Unlock()
	w.moved()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (w *diskWatch) end(d *diskWrite, err error) {
	w.mu.Lock()
	delete(w.writes, d)
	recovered := false
	if d.late {
		w.late--
		recovered = w.late == 0
	}
	if recovered && closed(w.hung) {
		w.hung = make(chan struct{})
	}
	if err != nil && d.op == opAppend {
		w.failed = time.Now()
	}
	before, failed := w.failing[d.op]
	switch {
	case err == nil:
		w.ended = time.Now()
		delete(w.failing, d.op)
	case !failed:
		w.failing[d.op] = diskFailure{err, time.Now()}
	}
	w.mu.Unlock()
	switch {
	case err != nil && !failed:
		w.log.Error("disk refuses writes", "operation", string(d.op), "err", err)
	case err == nil && failed:
		w.log.Info("disk accepts writes again", "operation", string(d.op), "failed_since", before.at)
	}
	if recovered {
		w.log.Info("disk answers again", "operation", string(d.op), "after", time.Since(d.begun).Round(time.Millisecond))
	}
	if recovered || (err != nil) != failed {
		w.moved()
	}
}

// upToDate records that this controller has stored everything that the leader sent.
// An entry that could not be appended before no longer matters.
func (w *diskWatch) upToDate() {
	w.mu.Lock()
	_, failed := w.failing[opAppend]
	delete(w.failing, opAppend)
	delete(w.failing, opRemove)
	w.mu.Unlock()
	if failed {
		w.moved()
	}
}

// hangs returns a channel that is closed while a write is over the limit.
func (w *diskWatch) hangs() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hung
}

func (w *diskWatch) isHung() bool { return closed(w.hangs()) }

// mayStand reports whether this controller may stand for election. If its disk just
// refused an entry it might be elected and refuse the next, so it lets the others
// elect one that can write. If its log lacks its end it would claim to have it.
func (w *diskWatch) mayStand() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.removed == indexRange{} && (w.failed.IsZero() || time.Since(w.failed) > standAgain)
}

// setRemoved records which entries are removed and not replaced yet.
func (w *diskWatch) setRemoved(r indexRange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed = r
}

func (w *diskWatch) isRemoved(index uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return index > 0 && w.removed.from <= index && index <= w.removed.to
}

// idleSince returns when the last write succeeded, and whether one is under way.
func (w *diskWatch) idleSince() (last time.Time, busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended, len(w.writes) > 0
}

// problem says what is wrong with the disk, or returns "". Of several failures it
// returns the first, because the others often follow from it.
func (w *diskWatch) problem() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var op operation
	var first diskFailure
	for o, f := range w.failing {
		if first.err == nil || f.at.Before(first.at) {
			op, first = o, f
		}
	}
	if first.err != nil {
		return fmt.Sprintf("the disk has refused writes since %s: %s: %v", first.at.UTC().Format(time.RFC3339), op, first.err)
	}
	var oldest *diskWrite
	for d := range w.writes {
		if d.late && (oldest == nil || d.begun.Before(oldest.begun)) {
			oldest = d
		}
	}
	if oldest != nil {
		return fmt.Sprintf("the disk does not answer: %s: not done after %s", oldest.op, time.Since(oldest.begun).Round(time.Second))
	}
	return ""
}

// watchedLog is raft's log with every write timed by a diskWatch.
type watchedLog struct {
	logStore
	watch *diskWatch
}

func (l watchedLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l watchedLog) StoreLogs(entries []*raft.Log) error {
	err := l.watch.do(opAppend, func() error { return l.logStore.StoreLogs(entries) })
	if err == nil {
		l.watch.setRemoved(indexRange{})
	}
	return err
}

// DeleteRange removes entries. Raft removes entries from the log's end when a leader
// sends others in their place, which raft stores next.
func (l watchedLog) DeleteRange(from, to uint64) error {
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	err = l.watch.do(opRemove, func() error { return l.logStore.DeleteRange(from, to) })
	if err == nil && to >= last {
		l.watch.setRemoved(indexRange{from, to})
	}
	return err
}

// removedType is the type of an entry that was removed. Raft would panic rather than
// apply it.
const removedType = raft.LogType(255)

// GetLog reads an entry. If the disk is full after raft has removed entries and
// before it has stored their replacements, raft still believes that the old ones
// exist (raft 1.8: the TODO in appendEntries). It would fail to compare their terms
// with the leader's, and store nothing any more. GetLog returns such entries with a
// term that no leader has, so that raft replaces them.
func (l watchedLog) GetLog(index uint64, entry *raft.Log) error {
	err := l.logStore.GetLog(index, entry)
	if errors.Is(err, raft.ErrLogNotFound) && l.watch.isRemoved(index) {
		*entry = raft.Log{Index: index, Type: removedType}
		return nil
	}
	return err
}

func (l watchedLog) Set(key, value []byte) error {
	return l.watch.do(opTerm, func() error { return l.logStore.Set(key, value) })
}

func (l watchedLog) SetUint64(key []byte, value uint64) error {
	return l.watch.do(opTerm, func() error { return l.logStore.SetUint64(key, value) })
}

// keyProbe is our own key in raft's stable store. Its value has no meaning.
var keyProbe = []byte("mcpfleetProbe")

// probe tests the disk with a write.
func (l watchedLog) probe() {
	// The watch records the error.
	_ = l.watch.do(opProbe, func() error { return l.logStore.SetUint64(keyProbe, uint64(time.Now().Unix())) })
}

// unwatched returns a diskWatch for a disk on which only its own writer depends.
func unwatched() *diskWatch {
	return newDiskWatch(time.Hour, slog.New(slog.DiscardHandler), func() {}, func() {})
}
