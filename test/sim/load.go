package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// load is calls that come over time, at random moments.
type load struct {
	name   string
	about  string
	length time.Duration
	// running returns how many calls run at once on average, if none waits.
	running func(at time.Duration) float64
	most    float64 // of running
	least   int     // min_replicas
	delays  bool    // it shows what upscale_delay_s does
}

// loads returns the loads of the simulation.
func loads() []load {
	return []load{
		{
			name: "steady", about: "20 calls at once for 20 min", length: 20 * time.Minute, most: 20, least: 1, delays: true,
			running: func(time.Duration) float64 { return 20 },
		},
		{
			name: "step", about: "2 calls at once, 40 from minute 2 to minute 7", length: 20 * time.Minute, most: 40, least: 1, delays: true,
			running: func(at time.Duration) float64 {
				if at >= 2*time.Minute && at < 7*time.Minute {
					return 40
				}
				return 2
			},
		},
		{
			name: "ramp", about: "from 2 calls at once to 60 in 5 min, there for 5 min, and back in 5 min",
			length: 25 * time.Minute, most: 60, least: 1,
			running: func(at time.Duration) float64 {
				m := at.Minutes()
				return 2 + 58*max(0, min(1, (m-1)/5, (16-m)/5))
			},
		},
		{
			name: "burst", about: "4 calls at once, and 60 for 10 s every 3 min", length: 30 * time.Minute, most: 60, least: 1, delays: true,
			running: func(at time.Duration) float64 {
				if at%(3*time.Minute) >= 2*time.Minute && at%(3*time.Minute) < 2*time.Minute+10*time.Second {
					return 60
				}
				return 4
			},
		},
		{
			name: "diurnal", about: "two days of half an hour each, between 2 and 60 calls at once", length: time.Hour, most: 60, least: 1,
			running: func(at time.Duration) float64 { return 31 - 29*math.Cos(4*math.Pi*at.Hours()) },
		},
		{
			name: "on-off", about: "20 calls at once for 1 min, then none for 4 min", length: 30 * time.Minute, most: 20, least: 0,
			running: func(at time.Duration) float64 {
				if at%(5*time.Minute) >= time.Minute && at%(5*time.Minute) < 2*time.Minute {
					return 20
				}
				return 0
			},
		},
		noisy(),
	}
}

// noisy returns a load that wanders at random around its mean.
func noisy() load {
	const every, length, mean = 5 * time.Second, 30 * time.Minute, 20.
	random := rand.New(rand.NewPCG(7, 7))
	levels, at := []float64{}, 0.
	for range length/every + 2 {
		at = 0.8*at + 0.2*random.NormFloat64() // forgets itself in about 25 s
		levels = append(levels, mean*math.Exp(min(at, 1)))
	}
	return load{
		name: "noisy", about: "20 calls at once on average, which vary at random by a third within half a minute",
		length: length, most: 60, least: 1,
		running: func(at time.Duration) float64 { return min(60, levels[at/every]) },
	}
}

// ideal returns how many replicas somebody would run who knows the load in advance.
func (l *load) ideal(at time.Duration) int {
	return max(int(math.Ceil(l.running(at)/targetOngoing-1e-9)), l.least)
}
