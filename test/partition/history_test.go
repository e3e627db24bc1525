//go:build linux

package partition

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/test/harness"
)

// Clients write and read a few servers through any controller while leaders are
// killed and partitions come and go. They get the same answers as from one single
// store.
func TestHistoryIsLinearizable(t *testing.T) {
	const during = 30 * time.Second
	c := NewCluster(t, 0)
	h := newHistory(t, c, "k1", "k2", "k3")

	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	for client := range 5 {
		h.group.Go(func() { h.client(ctx, client) })
	}
	c.disturb(ctx, rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))))
	h.group.Wait()

	// In the end everything works again, and the last reads are part of the history.
	c.Heal()
	c.AwaitLeader(c.Controllers...)
	for _, via := range c.Controllers {
		for _, key := range h.keys {
			eventually(t, "the last "+key+" through "+via, func() error { return h.read(t.Context(), 0, via, key) })
		}
	}
	h.check()
}

// disturb kills and cuts controllers, and lets them recover in between.
func (c *Cluster) disturb(ctx context.Context, random *rand.Rand) {
	c.t.Helper()
	hold := func(least time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(least + time.Duration(random.IntN(1500))*time.Millisecond):
		}
	}
	disturbances := []struct {
		what string
		do   func(victim string, rest []string)
	}{
		{"killed", func(victim string, _ []string) {
			c.Kill9(victim)
			hold(time.Second)
			c.StartController(victim)
		}},
		{"cut off", func(victim string, rest []string) { c.Cut(victim, rest...) }},
		{"deaf", func(victim string, rest []string) { c.Deafen(victim, rest...) }},
		{"dumb", func(victim string, rest []string) {
			for _, other := range rest {
				c.Deafen(other, victim)
			}
		}},
		{"on lossy links", func(string, []string) { c.Lose(0.3) }},
		{"one of all whose links are cut at random", func(string, []string) {
			for _, host := range c.Controllers {
				for _, other := range c.otherControllers(host) {
					if random.IntN(3) == 0 {
						c.Deafen(host, other)
					}
				}
			}
		}},
	}
	// Each disturbance comes before any comes a second time.
	for n, order := 0, []int(nil); ctx.Err() == nil; n++ {
		if n%len(disturbances) == 0 {
			order = random.Perm(len(disturbances))
		}
		d := disturbances[order[n%len(disturbances)]]
		victim, err := c.Leader(c.Controllers...)
		if err != nil || random.IntN(6) == 0 {
			victim = c.Controllers[random.IntN(len(c.Controllers))]
		}
		c.t.Logf("%s is %s (a leader is known: %v)", victim, d.what, err == nil)
		d.do(victim, c.otherControllers(victim))
		hold(2 * time.Second)
		c.Heal()
		hold(time.Second)
	}
}

// history has the operations of the clients, and their answers.
type history struct {
	t     testing.TB
	c     *Cluster
	keys  []string
	begin time.Time
	last  atomic.Int64 // to the number that was put
	group sync.WaitGroup

	mu    sync.Mutex
	ops   []porcupine.Operation
	tags  map[stored]string // to the ETag of each number
	known map[string]stored // and back
	count map[string]int    // of operations by kind, outcome and controller
}

// stored is the content that an ETag stands for.
type stored struct {
	key   string
	value int
}

// newHistory creates the registers.
func newHistory(t testing.TB, c *Cluster, keys ...string) *history {
	t.Helper()
	h := &history{t: t, c: c, keys: keys, begin: time.Now(), tags: map[stored]string{}, known: map[string]stored{}, count: map[string]int{}}
	for _, key := range keys {
		eventually(t, key+" is created", func() error { return c.Put("c1", key, c.spec(0, 0)) })
	}
	return h
}

// client does one operation after the other, each with a random server through a
// random controller.
func (h *history) client(ctx context.Context, id int) {
	random := rand.New(rand.NewPCG(uint64(id), uint64(h.begin.UnixNano())))
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		key := h.keys[random.IntN(len(h.keys))]
		via := h.c.Controllers[random.IntN(len(h.c.Controllers))]
		// Started operations are finished, since an aborted write would have an
		// unknown outcome.
		switch n := random.IntN(10); {
		case n < 5:
			_ = h.read(context.WithoutCancel(ctx), id, via, key) // it did not happen, so it is not in the history
		case n < 8:
			h.write(context.WithoutCancel(ctx), id, via, key, "", 0)
		default:
			if tag, match, ok := h.someTag(key); ok {
				h.write(context.WithoutCancel(ctx), id, via, key, tag, match)
			}
		}
	}
}

// someTag returns the latest number of a key that any client got, and its ETag.
func (h *history) someTag(key string) (tag string, value int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.ops) - 1; i >= 0; i-- {
		in, out := h.ops[i].Input.(input), h.ops[i].Output.(output)
		if in.key == key && in.op == opRead {
			return h.tags[stored{key, out.value}], out.value, true
		}
	}
	return "", 0, false
}

// patient is how long these clients wait at most. An operation that they give up
// may still be done much later.
const patient = 6 * time.Second

func (h *history) read(ctx context.Context, id int, via, key string) error {
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	call := h.now()
	s, err := h.c.Clients[via].GetServer(ctx, fleet.ServerName(key), api.ReadOptions{})
	ret := h.now()
	if v, bad := judge(err); bad != nil || v == unmet {
		h.t.Errorf("read %s through %s: %v", key, via, err)
	}
	if err != nil {
		h.note("read without an answer", via)
		return err
	}
	value, err := queueOf(s)
	if err != nil {
		h.t.Error(err)
		return err
	}
	h.learn(key, s.ETag, value)
	h.add(id, via, call, ret, input{key: key, op: opRead}, output{value: value})
	return nil
}

// write puts a new number, with tag as If-Match if it is not empty.
func (h *history) write(ctx context.Context, id int, via, key, tag string, match int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second/2+rand.N(patient))
	defer cancel()
	in := input{key: key, op: opPut, value: int(h.last.Add(1))}
	if tag != "" {
		in.op, in.match = opSwap, match
	}
	call := h.now()
	s, err := h.c.Clients[via].PutServer(ctx, fleet.ServerName(key), h.c.spec(0, in.value), api.WriteOptions{IfMatch: tag})
	ret := h.now()
	v, bad := judge(err)
	if bad != nil || v == unmet && tag == "" {
		h.t.Errorf("write %s through %s: %v", key, via, err)
	}
	switch v {
	case refused:
		h.note(in.op+" refused", via)
		return
	case unknown:
		ret = never
	case done:
		if got, err := queueOf(s.Server); err != nil || got != in.value {
			h.t.Errorf("the answer to writing %s = %d through %s shows %d (%v)", key, in.value, via, got, err)
		}
		h.learn(key, s.ETag, in.value)
	}
	h.add(id, via, call, ret, in, output{verdict: v})
}

func (h *history) now() int64 { return int64(time.Since(h.begin)) }

// learn fails the test unless an ETag always stands for the same content, and the
// content for the same ETag.
func (h *history) learn(key, tag string, value int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	is := stored{key, value}
	oldTag, seen := h.tags[is]
	old, used := h.known[tag]
	if tag == "" || seen && oldTag != tag || used && old != is {
		h.t.Errorf("%v has the ETag %q; it had %q, and that was of %v", is, tag, oldTag, old)
	}
	h.tags[is], h.known[tag] = tag, is
}

func (h *history) add(id int, via string, call, ret int64, in input, out output) {
	h.note(in.op+" "+out.verdict.String(), via)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: ret})
}

func (h *history) note(what, via string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count[what]++
	h.count["answered by "+via]++
}

// check fails the test unless the history is linearizable, and long enough to mean
// something.
func (h *history) check() {
	h.t.Helper()
	h.t.Logf("%d operations: %v", len(h.ops), h.count)
	for _, kind := range []string{"read done", "put done", "swap done"} {
		if h.count[kind] < 20 {
			h.t.Errorf("%s only %d times", kind, h.count[kind])
		}
	}
	result, info := porcupine.CheckOperationsVerbose(register(), h.ops, harness.Patience)
	if result == porcupine.Ok {
		return
	}
	picture := filepath.Join(h.t.ArtifactDir(), "history.html")
	err := porcupine.VisualizePath(register(), info, picture)
	h.t.Errorf("the history is not linearizable (%s); go test -artifacts keeps %s (%v)", result, picture, err)
	for _, part := range register().Partition(h.ops) {
		if porcupine.CheckOperationsTimeout(register(), part, harness.Patience) == porcupine.Ok {
			continue
		}
		for _, o := range part {
			h.t.Logf("%8.3f to %8.3f client %d: %s", float64(o.Call)/1e9, float64(o.Return)/1e9, o.ClientId,
				register().DescribeOperation(o.Input, o.Output))
		}
	}
}
