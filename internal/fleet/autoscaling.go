package fleet

import "time"

// Autoscaling says how the number of a server's replicas follows its load. Names
// and meaning are those of Ray Serve's autoscaling_config.
type Autoscaling struct {
	MinReplicas     int  // 0: the server goes idle without calls
	InitialReplicas *int `json:",omitempty"` // of a new server; nil: MinReplicas
	MaxReplicas     int
	// TargetOngoing is how many calls, running and queued, there should be for
	// each replica.
	TargetOngoing float64
	// UpscaleDelay and DownscaleDelay are how long more, or fewer, replicas must be
	// wanted without interruption before the target changes.
	UpscaleDelay, DownscaleDelay time.Duration
	// DownscaleToZeroDelay is the delay of the step from one replica to none; nil:
	// DownscaleDelay.
	DownscaleToZeroDelay *time.Duration `json:",omitempty"`
	// UpscalingFactor and DownscalingFactor multiply the distance between the
	// target and what the load asks for. 1 goes there at once.
	UpscalingFactor, DownscalingFactor float64
	// LookBack is the period whose load decides about fewer replicas.
	LookBack  time.Duration
	Schedules []ScalingSchedule `json:",omitempty"`
}

// ToZeroDelay returns the delay of the step from one replica to none.
func (a *Autoscaling) ToZeroDelay() time.Duration {
	if a.DownscaleToZeroDelay != nil {
		return *a.DownscaleToZeroDelay
	}
	return a.DownscaleDelay
}

// Initial returns how many replicas a new server begins with.
func (a *Autoscaling) Initial() int {
	if a.InitialReplicas != nil {
		return *a.InitialReplicas
	}
	return a.MinReplicas
}

// ScalingSchedule raises the least, or lowers the greatest, number of replicas at
// certain times.
type ScalingSchedule struct {
	Cron     string        // when it begins, in five fields
	Timezone string        `json:",omitempty"` // "": UTC
	For      time.Duration // how long it lasts
	// MinReplicas and MaxReplicas hold meanwhile; nil changes nothing. Of several
	// schedules the greatest floor and the least cap hold.
	MinReplicas *int `json:",omitempty"`
	MaxReplicas *int `json:",omitempty"`
}

// Floor is a least number of replicas that a user has asked for until a certain
// time, on a server that scales by itself. The zero value asks for nothing.
type Floor struct {
	MinReplicas int       `json:"min_replicas"`
	Until       time.Time `json:"until"`
}

// At returns the floor at a time: 0 once it has expired.
func (f Floor) At(now time.Time) int {
	if now.Before(f.Until) {
		return f.MinReplicas
	}
	return 0
}

// Defaults of autoscaling.
const (
	DefaultMinReplicas       = 1
	DefaultMaxReplicas       = 100
	DefaultTargetOngoing     = 2
	DefaultUpscaleDelay      = 0
	DefaultDownscaleDelay    = 60 * time.Second
	DefaultLookBack          = 30 * time.Second
	DefaultUpscalingFactor   = 1
	DefaultDownscalingFactor = 1
)

// DefaultAutoscaling returns what replicas: auto means.
func DefaultAutoscaling() Autoscaling {
	return Autoscaling{
		MinReplicas: DefaultMinReplicas, MaxReplicas: DefaultMaxReplicas, TargetOngoing: DefaultTargetOngoing,
		UpscaleDelay: DefaultUpscaleDelay, DownscaleDelay: DefaultDownscaleDelay, LookBack: DefaultLookBack,
		UpscalingFactor: DefaultUpscalingFactor, DownscalingFactor: DefaultDownscalingFactor,
	}
}

// Clamp returns the number of replicas that is nearest to n and allowed. A least
// number above the greatest is lowered to it.
func Clamp(n, least, most int) int { return max(min(n, most), min(least, most)) }
