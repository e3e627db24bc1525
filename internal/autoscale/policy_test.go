package autoscale

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// play is a sequence of events, and what the policy makes of it.
type play struct {
	name   string
	spec   func(*fleet.Autoscaling)
	target int
	calls  int // at the beginning, and for ever before
	events []happening
	length float64  // seconds
	want   []string // "time: from -> to kind"
}

// happening is an event of a play. What is nil stays.
type happening struct {
	at    float64
	calls *int
	begun uint64
	known *bool
	floor *fleet.Floor
	edit  func(*fleet.Autoscaling)
}

func callsAt(at float64, n int) happening  { return happening{at: at, calls: &n} }
func knownAt(at float64, k bool) happening { return happening{at: at, known: &k} }

// run plays it in steps of a batch.
func (p *play) run(t *testing.T) (got []string, last Decision) {
	spec := fleet.DefaultAutoscaling()
	if p.spec != nil {
		p.spec(&spec)
	}
	in := Input{Spec: &spec, Target: p.target, LoadKnown: true}
	load := fleet.ServerLoad{Running: p.calls}
	h := NewHistory(t0, load, spec.LookBack)
	due := t0
	for now := t0; now.Sub(t0) <= seconds(p.length); now = now.Add(Batch) {
		for len(p.events) > 0 && now.Sub(t0) >= seconds(p.events[0].at) {
			e := p.events[0]
			p.events = p.events[1:]
			if e.calls != nil || e.begun != 0 {
				if e.calls != nil {
					load.Running = *e.calls
				}
				load.Begun += e.begun
				h.Observe(now, load)
			}
			if e.known != nil {
				in.LoadKnown = *e.known
			}
			if e.floor != nil {
				in.Floor = *e.floor
			}
			if e.edit != nil {
				e.edit(&spec)
			}
			due = now
		}
		if due.IsZero() || due.After(now) {
			continue
		}
		last = Decide(now, in, h)
		due = last.Next
		if !due.IsZero() && !due.After(now) {
			t.Fatalf("at %v: look again at %v", now.Sub(t0), due.Sub(t0))
		}
		if (last.Kind == "") != (last.Target == in.Target) || (last.Kind == "") != (last.Reason == "") {
			t.Fatalf("at %v: a target of %d became %+v", now.Sub(t0), in.Target, last)
		}
		if last.Kind != "" {
			got = append(got, fmt.Sprintf("%v: %d -> %d %s", now.Sub(t0), in.Target, last.Target, last.Kind))
			in.Target, due = last.Target, now.Add(Batch)
		}
	}
	return got, last
}

func TestDecide(t *testing.T) {
	zero := func(s *fleet.Autoscaling) { s.MinReplicas = 0 }
	tests := []play{
		{
			name: "nothing to do", target: 1, length: 300,
		},
		{
			name: "a step of load is answered in full within a second", target: 1, length: 59, events: []happening{callsAt(10, 12)},
			want: []string{"10.2s: 1 -> 2 up", "10.4s: 2 -> 3 up", "10.6s: 3 -> 5 up", "10.8s: 5 -> 6 up"},
		},
		{
			name: "the last step of a climb is made, however small", target: 1, length: 59, events: []happening{callsAt(10, 20), callsAt(10.9, 22)},
			want: []string{"10.1s: 1 -> 2 up", "10.3s: 2 -> 4 up", "10.5s: 4 -> 6 up", "10.7s: 6 -> 8 up", "10.9s: 8 -> 10 up", "11.6s: 10 -> 11 up"},
		},
		{
			name: "a few calls that are counted twice for a moment ask for nothing", target: 1, length: 59,
			events: []happening{callsAt(10, 12), callsAt(10.55, 18), callsAt(10.65, 12), callsAt(11.2, 16), callsAt(11.3, 12)},
			want:   []string{"10.2s: 1 -> 2 up", "10.4s: 2 -> 3 up", "10.6s: 3 -> 5 up", "10.8s: 5 -> 6 up"},
		},
		{
			name: "a blip is not", target: 1, length: 59, events: []happening{callsAt(10, 12), callsAt(10.05, 0)},
		},
		{
			name: "no more than max_replicas", target: 5, calls: 10, length: 59, events: []happening{callsAt(10, 100)},
			spec: func(s *fleet.Autoscaling) { s.MaxReplicas = 6 },
			want: []string{"10.1s: 5 -> 6 up"},
		},
		{
			name: "a tiny target asks for all there may be", target: 1, length: 59, events: []happening{callsAt(10, 12)},
			spec: func(s *fleet.Autoscaling) { s.TargetOngoing, s.MaxReplicas = 1e-300, 6 },
			want: []string{"10.1s: 1 -> 6 up"},
		},
		{
			name: "a tiny factor goes up all the same", target: 1, length: 12.5, events: []happening{callsAt(10, 12)},
			spec: func(s *fleet.Autoscaling) { s.UpscalingFactor = 1e-9 },
			want: []string{"10.2s: 1 -> 2 up", "11.25s: 2 -> 3 up", "12.3s: 3 -> 4 up"},
		},
		{
			name: "10 % more is in the dead band", target: 10, calls: 20, length: 59, events: []happening{callsAt(10, 22)},
		},
		{
			name: "15 % more is not", target: 10, calls: 20, length: 59, events: []happening{callsAt(10, 23)},
			want: []string{"10.6s: 10 -> 12 up"},
		},
		{
			name: "10 % less is in the dead band", target: 10, calls: 20, length: 300, events: []happening{callsAt(10, 18)},
		},
		{
			name: "fewer calls: down after look-back and delay, to the greatest wish of the delay", target: 10, calls: 20, length: 300,
			events: []happening{callsAt(100, 4)},
			want:   []string{"2m43.8s: 10 -> 9 down", "2m47.8s: 9 -> 8 down", "2m51.3s: 8 -> 7 down", "2m55.3s: 7 -> 6 down", "2m58.8s: 6 -> 5 down", "3m2.8s: 5 -> 4 down", "3m6.3s: 4 -> 3 down", "3m10.3s: 3 -> 2 down"},
		},
		{
			name: "a peak interrupts the wish for fewer", target: 10, calls: 20, length: 211,
			events: []happening{callsAt(100, 2), callsAt(150, 20), callsAt(152, 2)},
		},
		{
			name: "one that is lower raises what is gone down to", target: 10, calls: 20, length: 210, spec: func(s *fleet.Autoscaling) { s.LookBack = time.Second },
			events: []happening{callsAt(100, 2), callsAt(150, 10), callsAt(152, 2)},
			want:   []string{"2m40.2s: 10 -> 9 down", "2m41.25s: 9 -> 5 down"},
		},
		{
			name: "a new history goes down only after a full look-back", target: 10, calls: 2, length: 35,
			spec: func(s *fleet.Autoscaling) { s.DownscaleDelay = 0 },
			want: []string{"30s: 10 -> 1 down"},
		},
		{
			name: "a new history goes up at once", target: 1, calls: 12, length: 5,
			want: []string{"0s: 1 -> 6 up"},
		},
		{
			name: "nothing goes down while the load is not known", target: 10, calls: 2, length: 195,
			events: []happening{knownAt(85, false), knownAt(130, true)},
			want:   []string{"3m10s: 10 -> 1 down"},
		},
		{
			name: "but up it goes", target: 1, calls: 2, length: 20,
			events: []happening{knownAt(0, false), callsAt(10, 4)},
			want:   []string{"10.1s: 1 -> 2 up"},
		},
		{
			name: "the first look-back begins when the load is known", target: 10, calls: 2, length: 80,
			spec:   func(s *fleet.Autoscaling) { s.DownscaleDelay = 0 },
			events: []happening{knownAt(0, false), knownAt(40, true)},
			want:   []string{"1m10s: 10 -> 1 down"},
		},
		{
			name: "another look-back begins anew", target: 10, calls: 2, length: 90,
			spec:   func(s *fleet.Autoscaling) { s.DownscaleDelay = 0 },
			events: []happening{{at: 20, edit: func(s *fleet.Autoscaling) { s.LookBack = time.Minute }}},
			want:   []string{"1m20s: 10 -> 1 down"},
		},
		{
			name: "upscale_delay_s", target: 1, length: 60, spec: func(s *fleet.Autoscaling) { s.UpscaleDelay = 10 * time.Second },
			events: []happening{callsAt(10, 12)},
			want:   []string{"20.2s: 1 -> 2 up", "20.4s: 2 -> 3 up", "20.6s: 3 -> 5 up", "20.8s: 5 -> 6 up"},
		},
		{
			name: "upscale_delay_s takes the least wish", target: 1, length: 24, spec: func(s *fleet.Autoscaling) { s.UpscaleDelay = 10 * time.Second },
			events: []happening{callsAt(10, 12), callsAt(15, 6), callsAt(17, 12)},
			want:   []string{"20.2s: 1 -> 2 up", "20.4s: 2 -> 3 up"},
		},
		{
			name: "a short step does not last for upscale_delay_s", target: 1, length: 60, spec: func(s *fleet.Autoscaling) { s.UpscaleDelay = 10 * time.Second },
			events: []happening{callsAt(10, 12), callsAt(19, 0), callsAt(21, 12), callsAt(30, 0)},
		},
		{
			name: "a call wakes an idle server at once", target: 0, length: 20,
			spec:   func(s *fleet.Autoscaling) { s.MinReplicas, s.UpscaleDelay = 0, time.Minute },
			events: []happening{callsAt(10, 1)},
			want:   []string{"10s: 0 -> 1 wake"},
		},
		{
			name: "a hundred calls wake it, and get what the policy says", target: 0, length: 20, spec: zero,
			events: []happening{callsAt(10, 100)},
			want:   []string{"10s: 0 -> 1 wake", "10.2s: 1 -> 12 up", "10.4s: 12 -> 25 up", "10.6s: 25 -> 37 up", "10.8s: 37 -> 50 up"},
		},
		{
			name: "a call that came and went wakes nothing", target: 0, length: 20, spec: zero, events: []happening{{at: 10, begun: 1}},
		},
		{
			name: "without calls the last replica goes after look-back and delay", target: 1, calls: 1, length: 200, spec: zero,
			events: []happening{callsAt(100, 0)},
			want:   []string{"3m10s: 1 -> 0 down"},
		},
		{
			name: "downscale_to_zero_delay_s is for the last replica only", target: 2, calls: 4, length: 300,
			spec: func(s *fleet.Autoscaling) {
				s.MinReplicas, s.DownscaleDelay, s.DownscaleToZeroDelay = 0, 10*time.Second, ptr(100*time.Second)
			},
			events: []happening{callsAt(100, 0)},
			want:   []string{"2m5.3s: 2 -> 1 down", "3m50s: 1 -> 0 down"},
		},
		{
			name: "calls too short to be seen keep it", target: 1, length: 200, spec: zero,
			events: []happening{{at: 50, begun: 1}, {at: 75, begun: 1}},
			want:   []string{"2m45s: 1 -> 0 down"},
		},
		{
			name: "a floor holds at once, and ends with normal downscaling", target: 1, length: 300,
			events: []happening{{at: 10, floor: &fleet.Floor{MinReplicas: 5, Until: t0.Add(100 * time.Second)}}},
			want:   []string{"10s: 1 -> 5 floor", "2m40s: 5 -> 1 down"},
		},
		{
			name: "a floor wakes an idle server", target: 0, length: 30, spec: zero,
			events: []happening{{at: 10, floor: &fleet.Floor{MinReplicas: 2, Until: t0.Add(100 * time.Second)}}},
			want:   []string{"10s: 0 -> 2 floor"},
		},
		{
			name: "the cap wins over a floor", target: 1, length: 30, spec: func(s *fleet.Autoscaling) { s.MaxReplicas = 3 },
			events: []happening{{at: 10, floor: &fleet.Floor{MinReplicas: 5, Until: t0.Add(100 * time.Second)}}},
			want:   []string{"10s: 1 -> 3 floor"},
		},
		{
			name: "limits that change hold at once", target: 5, calls: 10, length: 30,
			events: []happening{
				{at: 10, edit: func(s *fleet.Autoscaling) { s.MaxReplicas = 3 }},
				{at: 20, edit: func(s *fleet.Autoscaling) { s.MaxReplicas, s.MinReplicas = 100, 8 }},
			},
			want: []string{"10s: 5 -> 3 limit", "20s: 3 -> 8 limit"},
		},
		{
			name: "limits hold while the load is not known", target: 5, calls: 10, length: 30,
			events: []happening{knownAt(5, false), {at: 10, edit: func(s *fleet.Autoscaling) { s.MaxReplicas = 3 }}},
			want:   []string{"10s: 5 -> 3 limit"},
		},
		{
			name: "calls win over a floor below them", target: 1, length: 30,
			events: []happening{
				{at: 10, floor: &fleet.Floor{MinReplicas: 2, Until: t0.Add(100 * time.Second)}}, callsAt(10, 20),
			},
			want: []string{"10s: 1 -> 2 floor", "10.2s: 2 -> 3 up", "10.4s: 3 -> 5 up", "10.6s: 5 -> 7 up", "10.8s: 7 -> 10 up"},
		},
		{
			name: "a factor below 1 goes up in steps, one a second", target: 1, calls: 2, length: 30,
			spec:   func(s *fleet.Autoscaling) { s.UpscalingFactor = 0.5 },
			events: []happening{callsAt(10, 40)},
			want:   []string{"10.1s: 1 -> 3 up", "11.15s: 3 -> 12 up", "12.2s: 12 -> 16 up", "13.25s: 16 -> 18 up", "14.3s: 18 -> 19 up"},
		},
		{
			name: "a factor above 1 takes more than is needed", target: 1, calls: 2, length: 30,
			spec:   func(s *fleet.Autoscaling) { s.UpscalingFactor, s.UpscaleDelay = 2, 3*time.Second },
			events: []happening{callsAt(10, 20)},
			want:   []string{"13.1s: 1 -> 4 up", "13.3s: 4 -> 8 up", "13.5s: 8 -> 11 up"},
		},
		{
			name: "a small factor does not get stuck on the way down", target: 4, calls: 8, length: 300,
			spec:   func(s *fleet.Autoscaling) { s.DownscalingFactor, s.LookBack = 0.1, time.Second },
			events: []happening{callsAt(10, 2)},
			want:   []string{"1m10.4s: 4 -> 3 down", "2m10.45s: 3 -> 2 down", "3m10.5s: 2 -> 1 down"},
		},
		{
			name: "a factor above 1 does not go below what is needed", target: 9, calls: 18, length: 300,
			spec:   func(s *fleet.Autoscaling) { s.DownscalingFactor, s.LookBack = 3, time.Second },
			events: []happening{callsAt(10, 10)},
			want:   []string{"1m10.3s: 9 -> 8 down", "1m11.35s: 8 -> 5 down"},
		},
		{
			name: "calls that fluctuate do not make the target go up and down", target: 10, calls: 20, length: 300,
			events: fluctuating(300),
			want:   []string{"0s: 10 -> 12 up"},
		},
	}
	for _, p := range tests {
		t.Run(p.name, func(t *testing.T) {
			if got, _ := p.run(t); !slices.Equal(got, p.want) {
				t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(p.want, "\n  "))
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// fluctuating returns calls that are high for 2 s and low for 2 s.
func fluctuating(until float64) (out []happening) {
	for at := 0.; at < until; at += 4 {
		out = append(out, callsAt(at, 24), callsAt(at+2, 8))
	}
	return out
}
