package mcp

import (
	"bytes"
	"strconv"
	"time"
)

// MetaRelatedTask is the key of _meta with the core task that a message belongs to.
const MetaRelatedTask = "io.modelcontextprotocol/related-task"

// ResultTask is the type of the result that creates a task of the tasks extension.
const ResultTask = "task"

// NamesTask reports whether requests of a method are about a task, whose id is their target.
func NamesTask(method string) bool {
	switch method {
	case MethodTaskGet, MethodTaskUpdate, MethodTaskCancel, MethodTaskResult:
		return true
	}
	return false
}

// DeclaresTasks reports whether raw capabilities, of a client or a server, have the tasks extension.
func DeclaresTasks(capabilities []byte) bool {
	extensions, err := Fields(capabilities, "extensions")
	if err != nil || TypeOf(extensions[0]) != "object" {
		return false
	}
	tasks, err := Fields(extensions[0], TasksExtension)
	return err == nil && TypeOf(tasks[0]) == "object"
}

// MissingTasks is the error for a client that has not declared the tasks extension, and needs it.
func MissingTasks() *Error {
	return &Error{
		Code:    CodeMissingCapability,
		Message: "Missing required client capability: the extension " + TasksExtension,
		Data:    []byte(`{"requiredCapabilities":{"extensions":{"` + TasksExtension + `":{}}}}`),
	}
}

// MapTaskIDs returns raw with the ids of tasks in it replaced by what rename returns for them. raw is the
// result of a request of that method, or the params of a notification. Of tools/call it is a result that
// creates a task, of either protocol. With the method "" only the task that a message belongs to is
// replaced, which any message may name. What a task itself has brought about, such as its result, is not
// looked into. Every other byte stays as it is, and so does a text that is not as the specification says.
func MapTaskIDs(method string, raw []byte, rename func(id string) string) []byte {
	if !bytes.Contains(raw, []byte(`"taskId"`)) {
		return raw
	}
	var changes [2]Change
	n := 0
	add := func(path ...string) {
		found, err := [][]byte{raw}, error(nil)
		for _, name := range path {
			if found, err = Fields(found[0], name); err != nil || found[0] == nil {
				return
			}
		}
		if TypeOf(found[0]) != "string" {
			return
		}
		own := text(found[0])
		id := rename(own)
		if id == own {
			return
		}
		c := Set(path[len(path)-1], AppendString(nil, id))
		for i := len(path) - 2; i >= 0; i-- {
			c = Within(path[i], c)
		}
		changes[n] = c
		n++
	}
	switch method {
	case MethodToolsCall:
		if ResultType(raw) == ResultTask {
			add("taskId")
		} else {
			add("task", "taskId")
		}
	case MethodTaskGet, MethodTaskCancel, MethodTaskStatus, MethodTaskChanged:
		add("taskId")
	}
	add("_meta", MetaRelatedTask, "taskId")
	changed, err := Edit(raw, changes[:n]...)
	if err != nil {
		return raw
	}
	return changed
}

// Task is what a message says of a task.
type Task struct {
	ID     string
	Status string
	TTL    time.Duration // from its creation; 0: unlimited, or not told
	Core   bool          // it is of the core tasks, if the message creates it
}

// Ended reports whether the task has reached a status that is its last.
func (t *Task) Ended() bool {
	return t.Status == "completed" || t.Status == "failed" || t.Status == "cancelled"
}

// maxTTL bounds the lives of tasks that are told apart.
const maxTTL = 1 << 40 // ms

// ReadTask returns the task that a result of a request of that method, or the params of a notification,
// tells of. It reports false if there is none.
func ReadTask(method string, raw []byte) (t Task, ok bool) {
	if !bytes.Contains(raw, []byte(`"taskId"`)) {
		return t, false
	}
	switch method {
	case MethodToolsCall:
		if ResultType(raw) == ResultTask {
			break
		}
		found, err := Fields(raw, "task")
		if err != nil || TypeOf(found[0]) != "object" {
			return t, false
		}
		raw, t.Core = found[0], true
	case MethodTaskGet, MethodTaskCancel, MethodTaskStatus, MethodTaskChanged:
	default:
		return t, false
	}
	found, err := Fields(raw, "taskId", "status", "ttl", "ttlMs")
	if err != nil || TypeOf(found[0]) != "string" || TypeOf(found[1]) != "string" {
		return t, false
	}
	t.ID, t.Status = text(found[0]), text(found[1])
	for _, ttl := range found[2:] {
		if ms, err := strconv.ParseFloat(string(ttl), 64); err == nil && ms > 0 && ms < maxTTL {
			t.TTL = time.Duration(ms * float64(time.Millisecond))
		}
	}
	return t, true
}
