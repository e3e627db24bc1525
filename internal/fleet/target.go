package fleet

// Target is how many replicas of a server are wanted now, and who asked for
// them. What the user wrote is Spec.Replicas; the two differ after a scale.
type Target struct {
	Replicas int
	By       TargetSource
}

// TargetSource says who set a target.
type TargetSource int

// The sources of a target.
const (
	BySpec        TargetSource = iota // the number that the user wrote in the spec
	ByScale                           // a user, who has scaled the server since
	ByAutoscaling                     // the server's autoscaling
	BySessions                        // its sessions: each has a replica to itself
)

// Stopped reports whether users want no replica at all: calls fail at once, and
// nothing but another write starts the server.
func (t Target) Stopped() bool {
	return t.Replicas == 0 && t.By != ByAutoscaling && t.By != BySessions
}

// Idle reports whether no replica is wanted because nobody calls: a call wakes the
// server.
func (t Target) Idle() bool { return t.Replicas == 0 && t.By == ByAutoscaling }

// StopReason says in words why the server is stopped. It returns "" for a
// server that is not.
func (t Target) StopReason() string {
	switch {
	case !t.Stopped():
		return ""
	case t.By == ByScale:
		return "stopped by hand: scaled to 0"
	default:
		return "stopped by hand: replicas is 0"
	}
}
