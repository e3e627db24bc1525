package desired

import (
	"encoding/json"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// autoscalingFields returns the fields of autoscaling, none for a server whose
// number of replicas is fixed.
func autoscalingFields(a *fleet.Autoscaling) []field {
	if a == nil {
		return nil
	}
	return []field{
		{name: "autoscaling.min_replicas", text: jsonUnless(false, a.MinReplicas)},
		{name: "autoscaling.initial_replicas", text: jsonUnless(a.InitialReplicas == nil, a.InitialReplicas)},
		{name: "autoscaling.max_replicas", text: jsonUnless(false, a.MaxReplicas)},
		{name: "autoscaling.target_ongoing_requests", text: jsonUnless(false, a.TargetOngoing)},
		{name: "autoscaling.upscale_delay_s", text: seconds(&a.UpscaleDelay)},
		{name: "autoscaling.downscale_delay_s", text: seconds(&a.DownscaleDelay)},
		{name: "autoscaling.downscale_to_zero_delay_s", text: seconds(a.DownscaleToZeroDelay)},
		{name: "autoscaling.upscaling_factor", text: jsonUnless(false, a.UpscalingFactor)},
		{name: "autoscaling.downscaling_factor", text: jsonUnless(false, a.DownscalingFactor)},
		{name: "autoscaling.look_back_period_s", text: seconds(&a.LookBack)},
		{name: "autoscaling.schedules", text: schedules(a.Schedules)},
	}
}

func updateFields(u *fleet.Update) []field {
	fields := []field{
		{name: "update.max_surge", text: amount(u.MaxSurge)},
		{name: "update.max_unavailable", text: amount(u.MaxUnavailable)},
		{name: "update.min_ready", text: duration(u.MinReady)},
		{name: "update.progress_deadline", text: duration(u.ProgressDeadline)},
		{name: "update.verify", text: verifyCalls(u.Verify)},
		{name: "update.on_breaking_tools", text: jsonUnless(u.OnBreakingTools == "", u.OnBreakingTools)},
	}
	if c := u.Canary; c != nil {
		fields = append(fields,
			field{name: "update.canary.steps", text: percents(c.Steps)},
			field{name: "update.canary.hold", text: duration(c.Hold)},
			field{name: "update.canary.gate", text: jsonUnless(false, c.Gate)},
		)
	}
	return fields
}

func seconds(d *time.Duration) string {
	if d == nil {
		return ""
	}
	return jsonUnless(false, d.Seconds())
}

// amount returns a count as a number and a share as a string, as the fleet file
// has them.
func amount(a fleet.Amount) string {
	if a.Count != 0 || a.Percent == 0 {
		return jsonUnless(false, a.Count)
	}
	return jsonUnless(false, a.String())
}

func percents(shares []float64) string {
	words := make([]string, len(shares))
	for i, share := range shares {
		words[i] = fleet.Amount{Percent: share}.String()
	}
	return jsonUnless(false, words)
}

func schedules(all []fleet.ScalingSchedule) string {
	type schedule struct {
		Cron        string `json:"cron"`
		Timezone    string `json:"timezone,omitempty"`
		For         string `json:"for"`
		MinReplicas *int   `json:"min_replicas,omitempty"`
		MaxReplicas *int   `json:"max_replicas,omitempty"`
	}
	out := make([]schedule, len(all))
	for i, s := range all {
		out[i] = schedule{s.Cron, s.Timezone, s.For.String(), s.MinReplicas, s.MaxReplicas}
	}
	return jsonUnless(len(out) == 0, out)
}

func verifyCalls(all []fleet.VerifyCall) string {
	type call struct {
		Tool   string          `json:"tool"`
		Args   json.RawMessage `json:"args"`
		Expect string          `json:"expect"`
	}
	out := make([]call, len(all))
	for i, c := range all {
		out[i] = call(c)
	}
	return jsonUnless(len(out) == 0, out)
}
