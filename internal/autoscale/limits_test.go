package autoscale

import (
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// hourly returns a schedule that begins at each full hour.
func hourly(t *testing.T, lasts time.Duration, least, most *int) Schedule {
	s, err := readSchedule(fleet.ScalingSchedule{Cron: "0 * * * *", For: lasts, MinReplicas: least, MaxReplicas: most})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLimits(t *testing.T) {
	floor := fleet.Floor{MinReplicas: 4, Until: t0.Add(15 * time.Minute)}
	tests := []struct {
		name        string
		schedules   []Schedule
		floor       fleet.Floor
		at          time.Duration
		least, most int
		until       time.Duration // 0: never
		leastWhy    string
		mostWhy     string
	}{
		{"the spec alone", nil, fleet.Floor{}, 0, 1, 9, 0, "min_replicas is 1", "max_replicas is 9"},
		{
			"a schedule that is on", []Schedule{hourly(t, 20*time.Minute, ptr(3), ptr(5))}, fleet.Floor{}, 10 * time.Minute,
			3, 5, 20 * time.Minute, `schedule "0 * * * *" asks for at least 3`, `schedule "0 * * * *" allows at most 5`,
		},
		{"its first moment", []Schedule{hourly(t, 20*time.Minute, ptr(3), nil)}, fleet.Floor{}, 0, 3, 9, 20 * time.Minute, `schedule "0 * * * *" asks for at least 3`, "max_replicas is 9"},
		{"its end", []Schedule{hourly(t, 20*time.Minute, ptr(3), nil)}, fleet.Floor{}, 20 * time.Minute, 1, 9, time.Hour, "min_replicas is 1", "max_replicas is 9"},
		{"before it", []Schedule{hourly(t, 20*time.Minute, ptr(3), nil)}, fleet.Floor{}, 50 * time.Minute, 1, 9, time.Hour, "min_replicas is 1", "max_replicas is 9"},
		{
			"the greatest floor and the least cap", []Schedule{hourly(t, time.Minute, ptr(3), ptr(7)), hourly(t, 2*time.Minute, ptr(4), ptr(6)), hourly(t, 3*time.Minute, ptr(2), ptr(8))},
			fleet.Floor{}, 30 * time.Second, 4, 6, time.Minute, `schedule "0 * * * *" asks for at least 4`, `schedule "0 * * * *" allows at most 6`,
		},
		{"what changes nothing", []Schedule{hourly(t, time.Minute, ptr(0), ptr(90))}, fleet.Floor{}, 0, 1, 9, time.Minute, "min_replicas is 1", "max_replicas is 9"},
		{"longer than its interval", []Schedule{hourly(t, 90*time.Minute, ptr(3), nil)}, fleet.Floor{}, 40 * time.Minute, 3, 9, 90 * time.Minute, `schedule "0 * * * *" asks for at least 3`, "max_replicas is 9"},
		{"a floor", nil, floor, 0, 4, 9, 15 * time.Minute, "a user asked for at least 4 until 2030-01-01T00:15:00Z", "max_replicas is 9"},
		{"a floor that is over", nil, floor, 15 * time.Minute, 1, 9, 0, "min_replicas is 1", "max_replicas is 9"},
		{"a cap below a floor", []Schedule{hourly(t, 20*time.Minute, nil, ptr(2))}, floor, 0, 4, 2, 15 * time.Minute, "a user asked for at least 4 until 2030-01-01T00:15:00Z", `schedule "0 * * * *" allows at most 2`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := fleet.Autoscaling{MinReplicas: 1, MaxReplicas: 9}
			got := limitsAt(t0.Add(tt.at), &Input{Spec: &spec, Schedules: tt.schedules, Floor: tt.floor})
			if got.least != tt.least || got.most != tt.most {
				t.Errorf("from %d to %d, want from %d to %d", got.least, got.most, tt.least, tt.most)
			}
			if want := t0.Add(tt.until); tt.until != 0 && !got.until.Equal(want) || tt.until == 0 && !got.until.IsZero() {
				t.Errorf("until %v, want %v", got.until, tt.until)
			}
			_, leastWhy := got.whyLeast()
			_, mostWhy := got.whyMost()
			if leastWhy != tt.leastWhy || mostWhy != tt.mostWhy {
				t.Errorf("because %q and %q, want %q and %q", leastWhy, mostWhy, tt.leastWhy, tt.mostWhy)
			}
		})
	}
}

// A schedule raises and caps the target at its times, and normal downscaling follows.
func TestScheduleScales(t *testing.T) {
	spec := fleet.DefaultAutoscaling()
	in := Input{Spec: &spec, Schedules: []Schedule{hourly(t, 10*time.Minute, ptr(5), ptr(6))}, Target: 1, LoadKnown: true}
	start := t0.Add(-time.Minute)
	h := NewHistory(start, fleet.ServerLoad{}, spec.LookBack)
	type step struct {
		at     time.Duration
		target int
		kind   Kind
	}
	var got []step
	for now := start; now.Before(t0.Add(20 * time.Minute)); {
		d := Decide(now, in, h)
		if d.Kind != "" {
			got = append(got, step{now.Sub(t0), d.Target, d.Kind})
			in.Target = d.Target
			continue
		}
		if d.Next.IsZero() || d.Next.After(t0.Add(20*time.Minute)) {
			break
		}
		now = d.Next
	}
	want := []step{{0, 5, Scheduled}, {11 * time.Minute, 1, Down}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
}
