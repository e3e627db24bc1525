package route

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

const (
	// blameFor is how long a death counts against the calls that were inside.
	blameFor = 5 * time.Minute
	// maxBlamed bounds the blamed calls that are remembered per server.
	maxBlamed = 1024
	// guiltyAfter is how many deaths without an answer in between make a call
	// guilty: known to end replicas.
	guiltyAfter = 2
)

// callKey identifies equal calls: same caller, same tool, same arguments.
type callKey struct {
	caller string
	params uint64 // tool and arguments, hashed
	size   int
}

var keySeed = maphash.MakeSeed()

func keyOf(c *fleet.Call) callKey {
	return callKey{caller: c.Caller, params: maphash.Bytes(keySeed, c.Params), size: len(c.Params)}
}

// blame records which calls were inside replicas that died. A call that was
// inside twice is guilty: it is not repeated automatically, and runs on a replica
// of its own. Any answer to an equal call clears it, so a call that was killed by
// its neighbour does not stay guilty for long.
//
// The server's mutex guards it. Only any may be called without it.
type blame struct {
	size  atomic.Int32
	calls map[callKey]blamed
	sweep time.Time // when to drop old entries next
}

type blamed struct {
	deaths int
	last   time.Time // the last death that was counted
}

// any reports whether any call is blamed. It takes no lock, so that calls cost
// no more than this while no replica dies.
func (b *blame) any() bool { return b.size.Load() > 0 }

// guilty reports whether the call is known to end replicas.
func (b *blame) guilty(k callKey, now time.Time) bool {
	if now.After(b.sweep) {
		b.dropOld(now)
	}
	return b.calls[k].deaths >= guiltyAfter
}

// add records that a replica died with the call inside, which was sent there at
// began, and reports whether the call is now guilty. again means that this very
// call was inside another replica that died. Equal calls that ran at the same
// time count as one: a failing machine ends many replicas together, and a popular
// call is inside all of them.
func (b *blame) add(k callKey, began, now time.Time, again bool) (guilty bool) {
	e, ok := b.calls[k]
	if ok && now.Sub(e.last) >= blameFor {
		e, ok = blamed{}, false
	}
	if !ok && len(b.calls) >= maxBlamed {
		b.makeRoom(now)
	}
	if !ok || again || began.After(e.last) {
		e.deaths++
		e.last = now
	}
	if b.calls == nil {
		b.calls = make(map[callKey]blamed)
	}
	b.calls[k] = e
	b.count()
	return e.deaths >= guiltyAfter
}

// clear forgets the call and reports whether it was guilty.
func (b *blame) clear(k callKey) (wasGuilty bool) {
	e, ok := b.calls[k]
	if ok {
		delete(b.calls, k)
		b.count()
	}
	return e.deaths >= guiltyAfter
}

func (b *blame) dropOld(now time.Time) {
	b.sweep = now.Add(blameFor / 10)
	for k, e := range b.calls {
		if now.Sub(e.last) >= blameFor {
			delete(b.calls, k)
		}
	}
	b.count()
}

// makeRoom drops old entries or, if there are none, the oldest one.
func (b *blame) makeRoom(now time.Time) {
	b.dropOld(now)
	if len(b.calls) < maxBlamed {
		return
	}
	var oldest callKey
	first := true
	for k, e := range b.calls {
		if first || e.last.Before(b.calls[oldest].last) {
			oldest, first = k, false
		}
	}
	delete(b.calls, oldest)
}

func (b *blame) count() { b.size.Store(int32(len(b.calls))) }
