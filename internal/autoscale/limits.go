package autoscale

import (
	"fmt"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/crontab"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Schedule is a schedule of a spec that can be asked for times.
type Schedule struct {
	fleet.ScalingSchedule
	times *crontab.Times
}

// readSchedule returns a schedule of a spec.
func readSchedule(s fleet.ScalingSchedule) (Schedule, error) {
	zone, err := crontab.Zone(s.Timezone)
	if err != nil {
		return Schedule{}, fmt.Errorf("timezone: %w", err)
	}
	times, err := crontab.Parse(s.Cron, zone)
	if err != nil {
		return Schedule{}, fmt.Errorf("cron: %w", err)
	}
	return Schedule{s, times}, nil
}

// limits are the least and the greatest number of replicas at one time.
type limits struct {
	least, most    int
	floorBy, capBy *Schedule // nil: not a schedule
	floorOf        *fleet.Floor
	until          time.Time // when to look again; zero: they change only with the spec
}

// limitsAt returns the limits at a time. The greatest floor and the least cap hold,
// and a cap wins over a floor.
func limitsAt(now time.Time, in *Input) limits {
	l := limits{least: in.Spec.MinReplicas, most: in.Spec.MaxReplicas}
	for i := range in.Schedules {
		l.add(now, &in.Schedules[i])
	}
	if floor := in.Floor.At(now); floor > 0 {
		l.until = earlier(l.until, in.Floor.Until)
		if floor > l.least {
			l.least, l.floorOf, l.floorBy = floor, &in.Floor, nil
		}
	}
	return l
}

// add takes one schedule into account.
func (l *limits) add(now time.Time, s *Schedule) {
	holds, until := s.times.Hold(now, s.For)
	l.until = earlier(l.until, until)
	if !holds {
		return
	}
	if s.MinReplicas != nil && *s.MinReplicas > l.least {
		l.least, l.floorBy = *s.MinReplicas, s
	}
	if s.MaxReplicas != nil && *s.MaxReplicas < l.most {
		l.most, l.capBy = *s.MaxReplicas, s
	}
}

// whyLeast says who set the least number.
func (l *limits) whyLeast() (Kind, string) {
	switch {
	case l.floorOf != nil:
		return Floor, fmt.Sprintf("a user asked for at least %d until %s", l.least, l.floorOf.Until.UTC().Format(time.RFC3339))
	case l.floorBy != nil:
		return Scheduled, fmt.Sprintf("schedule %q asks for at least %d", l.floorBy.Cron, l.least)
	}
	return Limit, fmt.Sprintf("min_replicas is %d", l.least)
}

// whyMost says who set the greatest number.
func (l *limits) whyMost() (Kind, string) {
	if l.capBy != nil {
		return Scheduled, fmt.Sprintf("schedule %q allows at most %d", l.capBy.Cron, l.most)
	}
	return Limit, fmt.Sprintf("max_replicas is %d", l.most)
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
