package mcphttp

import (
	"context"
	"errors"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/lookup"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// taskPurpose is that of the tokens which are ids of tasks.
const taskPurpose = "task"

// taskForm is the first byte of what is sealed, in case there will be others.
const taskForm = 1

// taskRoute says where a task is, and whose it is. All of it is sealed into the id by which
// clients know the task, so that any controller finds it and nobody can guess one.
type taskRoute struct {
	server  fleet.ServerName
	replica fleet.ReplicaID // "": the one of the client's session
	caller  string
	own     string // the server's id of the task
	id      string // the client's, if it named the task
}

// encode returns the form that is sealed.
func (t *taskRoute) encode() []byte {
	b := []byte{taskForm}
	for _, text := range [...]string{string(t.server), string(t.replica), t.caller} {
		b = appendPart(b, text)
	}
	return append(b, t.own...)
}

// decodeTask undoes encode.
func decodeTask(b []byte) (t taskRoute, ok bool) {
	if len(b) == 0 || b[0] != taskForm {
		return t, false
	}
	if b, ok = cutTexts(b[1:], (*string)(&t.server), (*string)(&t.replica), &t.caller); !ok {
		return t, false
	}
	t.own = string(b)
	return t, true
}

// openTask returns the task that a client names.
func (f *Front) openTask(id string) (t taskRoute, ok bool) {
	text, err := f.cfg.Sealer.Open(taskPurpose, id)
	if err != nil {
		return t, false
	}
	t, ok = decodeTask(text)
	t.id = id
	return t, ok && t.caller == fleet.Anonymous
}

// ownsTasks reports whether tasks of a server are those of a session's own replica, which
// knows of no others.
func ownsTasks(dest fleet.Destination) bool { return dest.PerSession && !dest.Modern }

// isModern reports whether a message is one of the modern era.
func (m *message) isModern() bool { return m.meta.Version != nil }

// refusesTask returns why a modern server may not answer a request with a task, nil if it may.
func (m *message) refusesTask() error {
	switch {
	case !m.isModern():
		return errNoTask
	case !mcp.DeclaresTasks(m.meta.Capabilities):
		return errTaskUndeclared
	}
	return nil
}

// taskDestination returns where a request about a task goes. The tasks of the two eras
// are different protocols, so that a client gets at those of its own era only.
func (f *Front) taskDestination(view View, m *message) (fleet.Destination, error) {
	only, one := view.Only()
	if one {
		capabilities := view.Info().Capabilities
		if only.Modern != m.isModern() || only.Modern && !mcp.DeclaresTasks(capabilities) || !only.Modern && !has(capabilities, "tasks") {
			return only, unknownMethod(m.method)
		}
	}
	switch {
	case m.isModern() && !mcp.DeclaresTasks(m.meta.Capabilities):
		return only, errTaskUndeclared
	case one && ownsTasks(only):
		only.Name = m.target
		return only, nil
	}
	task, ok := f.openTask(m.target)
	dest, known := view.At(task.server)
	switch {
	case !ok && f.lacks():
		return dest, errIncomplete
	case !ok, !known, dest.Modern != m.isModern(), ownsTasks(dest) != (task.replica == ""):
		return dest, errUnknownTask
	}
	m.task, dest.Name = &task, task.own
	return dest, nil
}

// findTask sends a call about a task again that found its replica gone: this controller
// may not know the replica yet.
func (f *Front) findTask(ctx context.Context, c fleet.Call) (fleet.CallResult, error) {
	lag, refusal := lookup.NewServerLag, error(errUnknownTask)
	if f.lacks() {
		lag, refusal = catchUp, errIncomplete
	}
	for began := time.Now(); time.Since(began) < lag && ctx.Err() == nil; {
		pause(ctx, catchUpPoll)
		if res, err := f.cfg.Router.Call(ctx, c); !errors.Is(err, fleet.ErrTaskLost) {
			return res, err
		}
	}
	return fleet.CallResult{}, refusal
}

// cancelTimeout bounds how long a server takes to cancel a task that nobody can use.
const cancelTimeout = 5 * time.Second

// cancelTask cancels a task that a modern server has begun, with this result, for a client
// that cannot have tasks.
func (f *Front) cancelTask(ctx context.Context, trace fleet.Trace, server fleet.ServerName, replica fleet.ReplicaID, result []byte) {
	created, ok := mcp.ReadTask(mcp.MethodToolsCall, result)
	if !ok || created.Ended() {
		return
	}
	params, err := mcp.CancelTaskParams(mcp.LatestModern, f.self, created.ID)
	if err != nil {
		return // cannot happen: they are an object
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout) // also if the client has left
	defer cancel()
	res, err := f.cfg.Router.Call(ctx, fleet.Call{
		Server: server, Replica: replica, Method: mcp.MethodTaskCancel, Caller: fleet.Anonymous, Params: params, Timeout: cancelTimeout, Trace: trace,
	})
	if err == nil && res.Error != nil {
		err = mcp.ParseError(res.Error)
	}
	if err != nil {
		f.log.Warn("task not cancelled that the client cannot use", "server", server, "replica", replica, "request_id", trace.RequestID, "err", err)
	}
}

// resultOf returns the method of the request whose result one about a task has, or the
// method itself.
func resultOf(method string) string {
	if method == mcp.MethodTaskResult {
		return mcp.MethodToolsCall
	}
	return method
}

// taskNames gives the tasks in what a replica says the ids that clients know them by. A
// nil one changes nothing.
type taskNames struct {
	front  *Front
	at     taskRoute // without own
	method string    // of the request
}

// tasksOf returns the names for the answer to a request that asks for a task or is about
// one. It is nil for others. A modern server creates tasks unasked.
func (f *Front) tasksOf(scope fleet.Scope, dest fleet.Destination, m *message) *taskNames {
	switch {
	case m.task != nil:
		return &taskNames{f, *m.task, m.method}
	case dest.Modern || m.method != mcp.MethodToolsCall || m.isModern() || !m.parts.WantsTask():
		return nil
	case ownsTasks(dest):
		names := f.tasksOfSession(scope, dest)
		if names != nil {
			names.method = m.method
		}
		return names
	}
	return &taskNames{f, taskRoute{server: dest.Server, caller: fleet.Anonymous}, m.method}
}

// tasksOfSession returns the names for what the replica of a session says, nil where
// clients know it by itself.
func (f *Front) tasksOfSession(scope fleet.Scope, dest fleet.Destination) *taskNames {
	if scope.Server() != "" || !ownsTasks(dest) {
		return nil
	}
	return &taskNames{front: f, at: taskRoute{server: dest.Server, caller: fleet.Anonymous}}
}

// follow makes a call one about the task, or finds out which replica will have it.
func (t *taskNames) follow(p *reply, c *fleet.Call) {
	if t == nil || c.Session != "" {
		return
	}
	c.Replica = t.at.replica
	c.Placed = func(id fleet.ReplicaID) {
		t.at.replica = id
		if p.resume != nil {
			p.from(origin{t.at.server, t.method, id})
		}
	}
}

// name returns the client's id of a task, given the server's.
func (t *taskNames) name(own string) string {
	if own == t.at.own && t.at.id != "" {
		return t.at.id
	}
	task := t.at
	task.own = own
	id, err := t.front.cfg.Sealer.SealName(taskPurpose, task.encode())
	if err != nil {
		t.front.log.Warn("task cannot be given an id", "server", t.at.server, "err", err)
		return own // such as one of more than 4 KiB: nobody will find the task by it
	}
	return id
}

// result returns the result of the request.
func (t *taskNames) result(result []byte) []byte {
	if t == nil {
		return result
	}
	return mcp.MapTaskIDs(t.method, result, t.name)
}

// params returns those of a notification, or of a request to the client. A request about a
// task is about one of the client's, but may belong to one of the server's.
func (t *taskNames) params(kind fleet.MessageKind, method string, params []byte) []byte {
	switch {
	case t == nil:
		return params
	case kind == fleet.MessageRequest:
		method = ""
	}
	return mcp.MapTaskIDs(method, params, t.name)
}

// ownTaskIDs returns what a client answered to a request of the replica of its session
// with the server's ids of tasks.
func (f *Front) ownTaskIDs(scope fleet.Scope, result []byte) []byte {
	if scope.Server() != "" {
		return result
	}
	return mcp.MapTaskIDs("", result, func(id string) string {
		if task, ok := f.openTask(id); ok {
			return task.own
		}
		return id
	})
}
