package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/datadir"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// recordPatience is how long the disk may take to record an order before it counts as
// hanging.
const recordPatience = 2 * time.Second

// ledger decides whose orders the node obeys: those of the first cluster that gives one
// in this life, unless they are older than the newest order ever seen of it. A cluster
// that was restored from a backup has the same id and a higher incarnation, so nodes
// stay bound to it. A new life runs no replicas of the old cluster and may serve
// another. The file keeps the old cluster until then.
//
// The newest order counts as soon as it is seen. It is also written to a file for the
// next life. Orders depend on the file in different ways:
//
//   - A start waits for it and is refused without it: a node whose disk fails
//     should get no new replicas.
//   - A fence and a stop wait for it, and are obeyed without it. In this life
//     nothing depends on the file. The next life has lost all replicas, so there
//     is nothing that an older leader's order could undo. Until the present
//     leader fences that life, an older one could at most start replicas there;
//     the present leader acts on that node only after its fence, sees those
//     replicas in the report that follows, and stops them.
//   - A watch does not wait for it.
//
// A failed write is repeated until it succeeds.
type ledger struct {
	path    string
	log     *slog.Logger
	store   func(fleet.Order) error
	changed func(cause string) // called with why starts are refused, "" once they are not; may be nil

	mu      sync.Mutex
	seen    fleet.Order   // the newest
	stored  fleet.Order   // in the file
	bound   bool          // an order was admitted in this life
	heard   time.Time     // when an order was last admitted
	renews  fleet.Order   // the newest whose leader repeats it while the node drains
	cause   error         // why seen cannot be stored; nil if it can, as far as is known
	writing chan struct{} // closed when the write under way is over; nil if there is none
}

// ledgerFile is the file's content. Files of older versions have no incarnation, which
// counts as the first one.
type ledgerFile struct {
	Cluster     fleet.ClusterID   `json:"cluster"`
	Incarnation fleet.Incarnation `json:"incarnation"`
	Epoch       fleet.Epoch       `json:"epoch"`
}

func openLedger(path string, log *slog.Logger) (*ledger, error) {
	l := &ledger{path: path, log: log}
	l.store = l.write
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read whose orders this node obeys: %w", err)
	}
	var f ledgerFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("read whose orders this node obeys: %s: %w", path, err)
	}
	l.seen, l.stored = fleet.Order(f), fleet.Order(f)
	return l, nil
}

// admit admits an order that is to be obeyed, or refuses it if a newer one was seen.
// From now on older ones are refused.
func (l *ledger) admit(o fleet.Order) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.see(o, true)
	if err == nil {
		l.heard = time.Now()
	}
	return err
}

// expect records whether the leader of an admitted order repeats it every second while
// the node drains. Leaders of an older version do not.
func (l *ledger) expect(o fleet.Order, renewed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if renewed && o == l.seen {
		l.renews = o
	}
}

// leaderless reports whether the newest leader should have repeated its order in the
// last d, which began after since, and has not.
func (l *ledger) leaderless(since time.Time, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard.After(since) {
		since = l.heard
	}
	return l.bound && l.renews == l.seen && time.Since(since) >= d
}

// listen admits the order of a watch. It may be older than the newest one seen, because
// a follower can be behind. listen does not block.
func (l *ledger) listen(o fleet.Order) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.see(o, false)
	if err == nil && !covers(l.stored, l.seen) {
		l.begin()
	}
	return err
}

// see is called with mu held.
func (l *ledger) see(o fleet.Order, obey bool) error {
	switch {
	case o.Cluster == "":
		return fmt.Errorf("%w: it names none", fleet.ErrForeignCluster)
	case l.bound && o.Cluster != l.seen.Cluster:
		return fmt.Errorf("%w: this node serves %s, the order is from %s; to move the node, restart its worker",
			fleet.ErrForeignCluster, l.seen.Cluster, o.Cluster)
	case o.Cluster == l.seen.Cluster && o.Compare(l.seen) < 0:
		if obey {
			return fmt.Errorf("%w: %s, seen was %s", fleet.ErrStaleEpoch, age(o), age(l.seen))
		}
		l.bound = true
		return nil
	}
	l.seen, l.bound = o, true
	return nil
}

// covers reports whether a file with the order stored refuses all that o does.
func covers(stored, o fleet.Order) bool {
	return stored.Cluster == o.Cluster && stored.Compare(o) >= 0
}

// record waits until an admitted order is in the file, or returns why it is not. It does
// not wait for a disk that is known to hang.
func (l *ledger) record(o fleet.Order) error {
	patience := time.NewTimer(recordPatience)
	defer patience.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !covers(l.stored, o) {
		if l.cause != nil && l.writing != nil {
			return l.refused()
		}
		done := l.begin()
		l.mu.Unlock()
		over := false
		select {
		case <-done:
		case <-patience.C:
			over = true
		}
		l.mu.Lock()
		if over && !covers(l.stored, o) && l.cause == nil {
			l.fail(fmt.Errorf("the disk has not answered for %s", recordPatience))
		}
		if l.cause != nil && !covers(l.stored, o) {
			return l.refused()
		}
	}
	return nil
}

// refused needs mu.
func (l *ledger) refused() error { return fmt.Errorf("%w: %w", fleet.ErrNotRecorded, l.cause) }

// again begins another write when the last one failed.
func (l *ledger) again() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		l.begin()
	}
}

// begin writes the newest order, unless a write is under way. The channel that it
// returns is closed when the write is over. A disk that hangs keeps one goroutine, and
// there is never a second one. The caller holds mu.
func (l *ledger) begin() <-chan struct{} {
	if l.writing != nil {
		return l.writing
	}
	o, done := l.seen, make(chan struct{})
	l.writing = done
	go func() {
		defer close(done)
		err := l.store(o)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing = nil
		if err == nil {
			l.stored = o
		}
		l.fail(err)
	}()
	return done
}

// fail records the outcome of the last write. The caller holds mu.
func (l *ledger) fail(err error) {
	was := l.cause
	if l.cause = err; (was == nil) == (err == nil) {
		return
	}
	cause := ""
	if err != nil {
		cause = "it cannot record orders: " + err.Error()
		l.log.Warn("orders cannot be recorded: running replicas go on, but none is started", "file", l.path, "err", err)
	} else {
		l.log.Info("orders can be recorded again")
	}
	if l.changed != nil {
		l.changed(cause)
	}
}

// close waits for the write under way, but not for a disk that hangs.
func (l *ledger) close() {
	l.mu.Lock()
	done := l.writing
	l.mu.Unlock()
	if done != nil {
		wait(done, recordPatience)
	}
}

// age describes the age of an order.
func age(o fleet.Order) string {
	if o.Incarnation == 0 {
		return fmt.Sprintf("epoch %d", o.Epoch)
	}
	return fmt.Sprintf("incarnation %d, epoch %d", o.Incarnation, o.Epoch)
}

func (l *ledger) cluster() fleet.ClusterID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen.Cluster
}

func (l *ledger) write(o fleet.Order) error {
	b, err := json.Marshal(ledgerFile(o))
	if err != nil {
		return err
	}
	return datadir.Replace(l.path, append(b, '\n'))
}
