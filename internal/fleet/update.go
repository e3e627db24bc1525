package fleet

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Update says how one revision of a server replaces another.
type Update struct {
	MaxSurge       Amount // replicas more than wanted; a share is rounded up
	MaxUnavailable Amount // replicas fewer than wanted; a share is rounded down
	// MinReady is how long a new replica must be READY and healthy before an old
	// one goes.
	MinReady time.Duration
	// ProgressDeadline is how long a rollout may go without progress, pulls not
	// counted, before it is rolled back.
	ProgressDeadline time.Duration
	Verify           []VerifyCall `json:",omitempty"`
	// OnBreakingTools says what to do about tools that have changed so that callers
	// may break: BreakingWarn or BreakingHold.
	OnBreakingTools string
	Canary          *Canary `json:",omitempty"`
}

// The values of Update.OnBreakingTools.
const (
	BreakingWarn = "warn" // say so
	BreakingHold = "hold" // hold the rollout until someone resumes it
)

// VerifyCall is a call to the first replica of a new revision, before it gets any
// other.
type VerifyCall struct {
	Tool string
	Args json.RawMessage // an object
	// Expect is "ok", a substring of the result's text, or "cel:" and a CEL
	// expression over the result.
	Expect string
}

// Canary sends a new revision a growing share of the calls.
type Canary struct {
	Steps []float64 // percent of the calls, growing
	Hold  time.Duration
	Gate  string // GateAuto or GateManual
}

// The values of Canary.Gate.
const (
	GateAuto   = "auto"   // the next step follows unless the new revision is worse
	GateManual = "manual" // someone resumes the rollout for the next step
)

// Amount is a number of replicas, or a share of those that are wanted.
type Amount struct {
	Count   int     `json:",omitempty"`
	Percent float64 `json:",omitempty"` // of those wanted, used if Count is 0
}

// Up returns the amount of n replicas, a share rounded up.
func (a Amount) Up(n int) int {
	if a.Count != 0 {
		return a.Count
	}
	return int(math.Ceil(a.Percent * float64(n) / 100))
}

// Down returns the amount of n replicas, a share rounded down.
func (a Amount) Down(n int) int {
	if a.Count != 0 {
		return a.Count
	}
	return int(math.Floor(a.Percent * float64(n) / 100))
}

// IsZero reports whether the amount is nothing of any number.
func (a Amount) IsZero() bool { return a.Count == 0 && a.Percent == 0 }

// String returns the amount as the fleet file has it: "25%" or "2".
func (a Amount) String() string {
	if a.Count == 0 && a.Percent != 0 {
		return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
	}
	return strconv.Itoa(a.Count)
}

// Defaults of updates.
const (
	DefaultMinReady         = 5 * time.Second
	DefaultProgressDeadline = 120 * time.Second
	DefaultCanaryHold       = 60 * time.Second
)

// DefaultUpdate returns how a server is updated whose spec says nothing about it.
func DefaultUpdate() Update {
	return Update{
		MaxSurge: Amount{Percent: 25}, MinReady: DefaultMinReady, ProgressDeadline: DefaultProgressDeadline,
		OnBreakingTools: BreakingWarn,
	}
}

// Rollout is the state of a rollout that the next leader must know.
type Rollout struct {
	From    Revision  // 0: this is the first one
	Started time.Time // on the clock of the leader of then
	Paused  bool      // by hand: no replica of the old revision is replaced
	// Held says why the rollout waits for someone to resume it; "": it does not.
	Held string
	// Checked: the new revision has passed its verify calls and the comparison of
	// the tools, or someone has resumed the rollout since.
	Checked bool
	// Warning says how the tools have changed so that callers may break; "": they
	// have not, or were not compared yet.
	Warning string
	// Step is how many steps of the canary have been passed.
	Step int
}

// Tries reports whether a rollout to a newer revision is under way, and there is a
// stable one to return to. Only such a revision is checked, gets a share of the
// calls, and is judged. One that users return to has served before, and a first one
// has no other beside it.
func (s *Server) Tries() bool { return s.Rollout != nil && s.Stable != 0 && s.Revision > s.Stable }

// Unchecked reports whether replicas of the new revision take no calls yet: they may
// only once it has passed its checks.
func (s *Server) Unchecked() bool {
	update := s.Spec.UpdatePolicy()
	return s.Tries() && !s.Rollout.Checked && (len(update.Verify) > 0 || update.OnBreakingTools == BreakingHold)
}

// CanaryShare returns which share of the calls the new revision gets, in percent. It
// returns false if that depends on the replicas alone: there is no canary, or all of
// its steps have been passed.
func (s *Server) CanaryShare() (percent float64, ok bool) {
	canary := s.Spec.UpdatePolicy().Canary
	if !s.Tries() || canary == nil || s.Rollout.Step >= len(canary.Steps) {
		return 0, false
	}
	return canary.Steps[s.Rollout.Step], true
}

// FailedRevision is a revision that was rolled back because it did not serve.
type FailedRevision struct {
	Revision Revision  `json:"revision"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
	// Unfit means that replicas of it that still run get calls only while there are
	// no others: it served worse than the stable one, or failed a check.
	Unfit bool `json:"unfit,omitempty"`
}
