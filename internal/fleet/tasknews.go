package fleet

import (
	"encoding/base64"
	"strings"
)

// Beside resources, controllers want to hear of tasks. Among the URIs of an Interest, and as
// News.Task, these have URIs of their own, which no client can name.
const (
	taskURI         = "mcpfleet-task:"
	sessionTasksURI = "mcpfleet-session-tasks:"
)

// TaskURI stands for one task of a modern server.
func TaskURI(replica ReplicaID, own string) string {
	return taskURI + string(replica) + "/" + base64.RawURLEncoding.EncodeToString([]byte(own))
}

// SessionTasksURI stands for all tasks that a session has begun at legacy servers which
// serve many clients.
func SessionTasksURI(session SessionID) string { return sessionTasksURI + string(session) }

// SessionTaskURI stands for one of them. It is covered by SessionTasksURI.
func SessionTaskURI(session SessionID, replica ReplicaID, own string) string {
	return SessionTasksURI(session) + "/" + strings.TrimPrefix(TaskURI(replica, own), taskURI)
}

// IsTaskURI reports whether a URI stands for tasks instead of a resource.
func IsTaskURI(uri string) bool {
	return strings.HasPrefix(uri, taskURI) || strings.HasPrefix(uri, sessionTasksURI)
}

// ParseTaskURI undoes TaskURI.
func ParseTaskURI(uri string) (replica ReplicaID, own string, ok bool) {
	rest, is := strings.CutPrefix(uri, taskURI)
	name, encoded, cut := strings.Cut(rest, "/")
	id, err := base64.RawURLEncoding.DecodeString(encoded)
	return ReplicaID(name), string(id), is && cut && err == nil
}
