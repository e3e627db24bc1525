package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// taskLife bounds how long a task counts that nobody hears of, whatever its ttl says.
	taskLife = time.Hour
	// resultWait is how long a core task counts that has completed, so that its client can
	// fetch the result.
	resultWait = 30 * time.Second
	// maxTasks bounds the tasks of a replica that are counted.
	maxTasks = 1000
	// maxCreated is how long a result that creates a task may be, in bytes. Larger ones are
	// not looked into.
	maxCreated = 16 << 10
)

// liveTasks are the tasks of a replica that were created and have not been seen to end.
// Each counts as a call that runs: in the load, so that the replica is stopped after
// others, and for a drain, which waits for it. The zero value is ready.
type liveTasks struct {
	n atomic.Int64 // of all

	mu  sync.Mutex
	all map[string]*liveTask
}

type liveTask struct {
	core  bool
	owner string        // of the stream of the call that began it; "" if it had none
	ttl   time.Duration // 0: unlimited
	end   *time.Timer
}

// owner returns whose task it is, "" if that is not known.
func (l *liveTasks) owner(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.all[id]; t != nil {
		return t.owner
	}
	return ""
}

// count returns how many there are.
func (l *liveTasks) count() int64 { return l.n.Load() }

// saw takes note of what a server said of its tasks: a result of a request with these
// params, whose stream has this owner, or the params of a notification, which has neither.
// Nearly all results are of calls that have nothing to do with tasks: they cost a search.
func (r *replica) saw(method, owner string, params, said []byte) {
	switch method {
	case mcp.MethodToolsCall:
		if len(said) > maxCreated {
			return
		}
		if t, ok := mcp.ReadTask(method, said); ok && !t.Ended() {
			r.taskBegins(&t, owner)
		}
	case mcp.MethodTaskGet, mcp.MethodTaskStatus, mcp.MethodTaskChanged:
		if r.tasks.count() == 0 {
			return
		}
		if t, ok := mcp.ReadTask(method, said); ok {
			r.taskSeen(&t)
		}
	case mcp.MethodTaskResult, mcp.MethodTaskCancel: // nobody asks for it any more
		if r.tasks.count() == 0 {
			return
		}
		if id, _, err := mcp.Target(method, params); err == nil {
			r.taskEnds(id)
		}
	}
}

func (r *replica) taskBegins(t *mcp.Task, owner string) {
	l := &r.tasks
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[t.ID] != nil || len(l.all) >= maxTasks {
		return
	}
	if l.all == nil {
		l.all = make(map[string]*liveTask)
	}
	r.running.Add(1)
	r.ongoing.Add(1)
	l.n.Add(1)
	id := t.ID
	l.all[id] = &liveTask{core: t.Core, owner: owner, ttl: t.TTL, end: time.AfterFunc(lifeOf(t.TTL), func() { r.taskEnds(id) })}
	r.loadNotice.post()
}

// lifeOf returns how long a task counts that was just heard of.
func lifeOf(ttl time.Duration) time.Duration {
	if ttl > 0 && ttl < taskLife {
		return ttl
	}
	return taskLife
}

// taskSeen takes note of the status of a task.
func (r *replica) taskSeen(t *mcp.Task) {
	l := &r.tasks
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.all[t.ID]
	switch {
	case live == nil:
	case !t.Ended() && lifeOf(live.ttl) == taskLife:
		live.end.Reset(taskLife)
	case !t.Ended(): // its ttl counts from its creation
	case live.core && t.Status != "cancelled":
		live.end.Reset(resultWait)
	default:
		r.uncount(t.ID)
	}
}

func (r *replica) taskEnds(id string) {
	r.tasks.mu.Lock()
	defer r.tasks.mu.Unlock()
	if r.tasks.all[id] != nil {
		r.uncount(id)
	}
}

// endTasks forgets all tasks. They ended with the process.
func (r *replica) endTasks() {
	r.tasks.mu.Lock()
	defer r.tasks.mu.Unlock()
	for id := range r.tasks.all {
		r.uncount(id)
	}
}

// uncount needs r.tasks.mu held.
func (r *replica) uncount(id string) {
	r.tasks.all[id].end.Stop()
	delete(r.tasks.all, id)
	r.tasks.n.Add(-1)
	r.ongoing.Add(-1)
	r.loadNotice.post()
	r.callEnded()
}
