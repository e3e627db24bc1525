package fleetfile

import (
	"cmp"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/mcpfleet/mcpfleet/internal/crontab"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// replicas decodes a number, or the word auto.
func (d *serverDecoder) replicas(n *yaml.Node, at string, k keyShape) {
	const want = "a whole number, or auto"
	if text, ok := d.text(n, at, want); ok && text == "auto" {
		d.auto = true
		return
	} else if ok {
		setInt(&d.spec.Replicas)(d.integerAs(n, at, k, want))
	}
}

func (d *serverDecoder) autoscaling(n *yaml.Node, at string) {
	if !d.hasValue(n, at) {
		return
	}
	a := fleet.DefaultAutoscaling()
	d.spec.Autoscaling = &a
	given := map[string]*yaml.Node{}
	var schedules *yaml.Node
	d.section(n, at, autoscalingShape, laterAutoscalingKeys, func(e entry, at string, k keyShape) {
		given[e.key] = e.value
		switch e.key {
		case "min_replicas":
			setInt(&a.MinReplicas)(d.integer(e.value, at, k))
		case "initial_replicas":
			a.InitialReplicas = d.count(e.value, at, k)
		case "max_replicas":
			setInt(&a.MaxReplicas)(d.integer(e.value, at, k))
		case "target_ongoing_requests":
			set(&a.TargetOngoing)(d.number(e.value, at, k))
		case "upscale_delay_s":
			set(&a.UpscaleDelay)(d.duration(e.value, at, k))
		case "downscale_delay_s":
			set(&a.DownscaleDelay)(d.duration(e.value, at, k))
		case "downscale_to_zero_delay_s":
			if delay, ok := d.duration(e.value, at, k); ok {
				a.DownscaleToZeroDelay = &delay
			}
		case "upscaling_factor":
			set(&a.UpscalingFactor)(d.number(e.value, at, k))
		case "downscaling_factor":
			set(&a.DownscalingFactor)(d.number(e.value, at, k))
		case "look_back_period_s":
			set(&a.LookBack)(d.duration(e.value, at, k))
		case "schedules":
			schedules = e.value
		}
	})
	d.checkBounds(given, at, &a)
	if schedules != nil {
		d.schedules(schedules, join(at, "schedules"), &a) // after the bounds, whatever the order of the keys
	}
}

// laterAutoscalingKeys are further keys of Ray Serve's autoscaling_config.
var laterAutoscalingKeys = []string{"aggregation_function", "metrics_interval_s", "policy", "smoothing_factor"}

// checkBounds refuses bounds that contradict each other.
func (d *serverDecoder) checkBounds(given map[string]*yaml.Node, at string, a *fleet.Autoscaling) {
	switch {
	case a.MinReplicas > a.MaxReplicas && given["min_replicas"] != nil:
		d.errorf(given["min_replicas"], join(at, "min_replicas"), "must not be above max_replicas, which is %d", a.MaxReplicas)
	case a.MinReplicas > a.MaxReplicas:
		d.errorf(given["max_replicas"], join(at, "max_replicas"), "must not be below min_replicas, which is %d", a.MinReplicas)
	case a.Initial() < a.MinReplicas:
		d.errorf(given["initial_replicas"], join(at, "initial_replicas"), "must not be below min_replicas, which is %d", a.MinReplicas)
	case a.Initial() > a.MaxReplicas:
		d.errorf(given["initial_replicas"], join(at, "initial_replicas"), "must not be above max_replicas, which is %d", a.MaxReplicas)
	}
}

// finishReplicas settles whether the number of replicas is fixed.
func (d *serverDecoder) finishReplicas() {
	n, given := d.given["replicas"]
	switch {
	case d.spec.Autoscaling == nil && !d.auto:
		return
	case d.spec.Autoscaling == nil:
		d.spec.Autoscaling = new(fleet.DefaultAutoscaling())
	case given && !d.auto:
		d.errorf(n, join(d.path, "replicas"), "is a fixed number, and the server has autoscaling; leave one of the two out")
	}
	d.spec.Replicas = 0
	if n := d.given["max_queued_requests"]; n != nil && d.spec.MaxQueuedRequests == 0 && d.spec.Autoscaling.MinReplicas == 0 {
		d.errorf(n, join(d.path, "max_queued_requests"), "must not be 0 with autoscaling.min_replicas: 0: a call to an idle server waits until it has started")
	}
	d.checkTarget()
}

// checkTarget warns of a target that replicas cannot reach.
func (d *serverDecoder) checkTarget() {
	target, most := d.spec.Autoscaling.TargetOngoing, d.spec.MaxOngoingRequests
	if target > float64(most) && most > 0 {
		d.warnf(cmp.Or(d.given["autoscaling"], d.given["max_ongoing_requests"]), join(d.path, "autoscaling.target_ongoing_requests"),
			"is %s, and max_ongoing_requests is %d: a replica is added only when calls wait; lower the target, or raise max_ongoing_requests",
			strconv.FormatFloat(target, 'f', -1, 64), most)
	}
}

// maxSchedules bounds the schedules of a server.
const maxSchedules = 100

func (d *serverDecoder) schedules(n *yaml.Node, at string, a *fleet.Autoscaling) {
	for i, c := range d.mappings(n, at, "schedules, each with cron and for", maxSchedules) {
		at := fmt.Sprintf("%s[%d]", at, i)
		if s, ok := d.schedule(c, at, a); ok {
			a.Schedules = append(a.Schedules, s)
		}
	}
}

// mappings returns the items of a list of mappings.
func (d *serverDecoder) mappings(n *yaml.Node, at, want string, most int) []*yaml.Node {
	list := resolve(n)
	switch {
	case isNull(list):
		return nil
	case list.Kind != yaml.SequenceNode:
		d.malformed(n, at, "must be a list of %s, not %s", want, describe(list))
		return nil
	case len(list.Content) > most:
		d.errorf(n, at, "must have at most %d items, not %d", most, len(list.Content))
		return nil
	}
	return list.Content
}

func (d *serverDecoder) schedule(n *yaml.Node, at string, a *fleet.Autoscaling) (s fleet.ScalingSchedule, ok bool) {
	before := len(d.errs)
	given := map[string]*yaml.Node{}
	d.section(n, at, scheduleShape, nil, func(e entry, at string, k keyShape) {
		given[e.key] = e.value
		switch e.key {
		case "cron":
			set(&s.Cron)(d.str(e.value, at))
		case "timezone":
			set(&s.Timezone)(d.str(e.value, at))
		case "for":
			set(&s.For)(d.duration(e.value, at, k))
		case "min_replicas":
			s.MinReplicas = d.count(e.value, at, k)
		case "max_replicas":
			s.MaxReplicas = d.count(e.value, at, k)
		}
	})
	if len(d.errs) > before {
		return s, false
	}
	for _, key := range []string{"cron", "for"} {
		if given[key] == nil {
			d.malformed(n, join(at, key), "is missing: a schedule says when it begins with cron, and how long it lasts with for")
		}
	}
	if given["min_replicas"] == nil && given["max_replicas"] == nil {
		d.malformed(n, at, "needs min_replicas or max_replicas")
	}
	zone, err := crontab.Zone(s.Timezone)
	if err != nil {
		d.errorf(given["timezone"], join(at, "timezone"), "%s", err)
	} else if _, err := crontab.Parse(s.Cron, zone); err != nil && given["cron"] != nil {
		d.errorf(given["cron"], join(at, "cron"), "%s", err)
	}
	most := a.MaxReplicas
	if s.MaxReplicas != nil {
		if *s.MaxReplicas > most {
			d.errorf(given["max_replicas"], join(at, "max_replicas"), "must not be above the max_replicas of autoscaling, which is %d", most)
		}
		most = min(most, *s.MaxReplicas)
	}
	if s.MinReplicas != nil && *s.MinReplicas > most {
		d.errorf(given["min_replicas"], join(at, "min_replicas"), "must not be above max_replicas, which is %d", most)
	}
	return s, len(d.errs) == before
}
