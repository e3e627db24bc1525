package main

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// The simulated server is the same for all policies.
const (
	serviceTime   = 200 * time.Millisecond // of calls, on average
	startTime     = 500 * time.Millisecond // of a replica
	maxOngoing    = 8                      // calls of a replica at once
	targetOngoing = 2
	maxReplicas   = 100
)

// replica is a simulated replica. Its calls take the same time however many it runs.
type replica struct {
	ready   time.Duration
	ongoing int
}

type eventKind int

const (
	arrival eventKind = iota
	completion
	replicaReady
	policyLooks
	sampling
)

// event is something that happens at a time.
type event struct {
	at   time.Duration
	seq  int // the order of events at one time
	kind eventKind
	on   *replica
}

// events is a heap.
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// world is a simulated server with its replicas and its queue.
type world struct {
	load     *load
	policy   policy
	random   *rand.Rand
	now      time.Duration
	events   events
	seq      int
	replicas []*replica
	queue    []time.Duration // when the calls came
	running  int
	begun    int
	run      *run
}

// simulate runs a load against a policy.
func simulate(l *load, s subject) *run {
	w := &world{
		load: l, policy: s.make(l.least), random: rand.New(rand.NewPCG(1, 1)), run: &run{load: l, subject: s.name},
	}
	for range l.ideal(0) {
		w.replicas = append(w.replicas, &replica{})
	}
	w.after(w.untilArrival(), arrival, nil)
	w.after(0, policyLooks, nil)
	w.after(0, sampling, nil)
	for {
		e := heap.Pop(&w.events).(event)
		if e.at >= l.length {
			return w.run
		}
		w.now = e.at
		w.handle(e)
		w.dispatch()
	}
}

// after makes something happen in a while.
func (w *world) after(d time.Duration, kind eventKind, on *replica) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, kind, on})
}

func (w *world) handle(e event) {
	switch e.kind {
	case arrival:
		w.after(w.untilArrival(), arrival, nil)
		if w.random.Float64()*w.load.most < w.load.running(w.now) { // the rest is not there
			w.begun++
			w.queue = append(w.queue, w.now)
		}
	case completion:
		e.on.ongoing--
		w.running--
	case policyLooks:
		w.after(w.policy.every(), policyLooks, nil)
		w.scale(w.policy.look(w.now, w.scene()))
	case sampling:
		w.after(sampleEvery, sampling, nil)
		w.run.record(w.now, w.scene())
	case replicaReady: // it takes what waits
	}
}

// untilArrival returns the time to the next call, at the greatest rate of the load.
func (w *world) untilArrival() time.Duration {
	return time.Duration(w.random.ExpFloat64() * float64(serviceTime) / w.load.most)
}

// dispatch sends what waits to the ready replicas with the fewest calls.
func (w *world) dispatch() {
	for len(w.queue) > 0 {
		var best *replica
		for _, r := range w.replicas {
			if r.ready <= w.now && r.ongoing < maxOngoing && (best == nil || r.ongoing < best.ongoing) {
				best = r
			}
		}
		if best == nil {
			return
		}
		w.run.waits = append(w.run.waits, w.now-w.queue[0])
		w.queue = w.queue[1:]
		best.ongoing++
		w.running++
		w.after(time.Duration(w.random.ExpFloat64()*float64(serviceTime)), completion, best)
	}
}

// scale starts replicas, or lets those with the fewest calls end.
func (w *world) scale(target int) {
	w.run.recordTarget(len(w.replicas), target)
	for len(w.replicas) < target {
		w.replicas = append(w.replicas, &replica{ready: w.now + startTime})
		w.after(startTime, replicaReady, nil)
	}
	for len(w.replicas) > target {
		least := len(w.replicas) - 1
		for i, r := range w.replicas {
			if r.ongoing < w.replicas[least].ongoing {
				least = i
			}
		}
		w.replicas = append(w.replicas[:least], w.replicas[least+1:]...)
	}
}

func (w *world) scene() scene {
	s := scene{calls: w.running + len(w.queue), begun: w.begun, target: len(w.replicas)}
	for _, r := range w.replicas {
		if r.ready <= w.now {
			s.ready++
		}
	}
	return s
}
