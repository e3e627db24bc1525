package fleet

import "fmt"

// Phase is how far a replica has come. It only moves forward:
// PENDING -> PULLING -> STARTING -> READY -> DRAINING -> STOPPED | FAILED,
// and may skip steps.
type Phase uint8

// The phases of a replica.
const (
	PhaseUnknown  Phase = iota
	PhasePending        // wanted, not begun
	PhasePulling        // the image is being pulled
	PhaseStarting       // the process starts and shakes hands
	PhaseReady          // takes calls
	PhaseDraining       // takes no new calls, finishes those it has
	PhaseStopped        // ended on order
	PhaseFailed         // ended otherwise
)

var phaseNames = [...]string{"UNKNOWN", "PENDING", "PULLING", "STARTING", "READY", "DRAINING", "STOPPED", "FAILED"}

// String returns the phase as the HTTP API shows it.
func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("Phase(%d)", uint8(p))
}

// Ended reports whether the replica has ended.
func (p Phase) Ended() bool { return p == PhaseStopped || p == PhaseFailed }

// CanBecome reports whether p may be followed by next.
func (p Phase) CanBecome(next Phase) bool { return !p.Ended() && next > p && next <= PhaseFailed }

// State is the state of a server as a whole.
type State string

// The states of a server.
const (
	StateDeploying   State = "DEPLOYING"   // first replicas on their way
	StateReady       State = "READY"       // all wanted replicas serve
	StateDegraded    State = "DEGRADED"    // some, not all, serve
	StateUnavailable State = "UNAVAILABLE" // no replica serves, and the last start failed or no replica can be placed
	StateUpdating    State = "UPDATING"    // a new revision replaces the old
	StateDeleting    State = "DELETING"    // no longer wanted, replicas are going
	StateIdle        State = "IDLE"        // scaled to zero by itself, or ended by itself without calls: a call wakes it
	StateStopped     State = "STOPPED"     // stopped by hand: calls fail
)
