package fleetfile

import (
	"encoding/json"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// This file has the views of the sections that say how many replicas there are and
// how they are updated.

// AutoscalingView is autoscaling in the keys of the fleet file, which are those of
// Ray Serve. Delays are in seconds.
type AutoscalingView struct {
	MinReplicas           int            `json:"min_replicas" kind:"count" bounds:"0 10000" jsonschema_description:"Least number of replicas. With 0 the server goes idle without calls, and a call wakes it."`
	InitialReplicas       *int           `json:"initial_replicas,omitempty" kind:"count" bounds:"0 10000" jsonschema_description:"Replicas of a new server. min_replicas by default."`
	MaxReplicas           int            `json:"max_replicas" kind:"count" bounds:"1 10000" jsonschema_description:"Greatest number of replicas."`
	TargetOngoingRequests float64        `json:"target_ongoing_requests" kind:"number" bounds:"0 10000" jsonschema_description:"Calls, running and queued, that there should be for each replica."`
	UpscaleDelay          float64        `json:"upscale_delay_s" kind:"duration" bounds:"0s 24h" jsonschema_description:"How long more replicas must be wanted before they are started, in seconds or as a duration."`
	DownscaleDelay        float64        `json:"downscale_delay_s" kind:"duration" bounds:"0s 24h" jsonschema_description:"How long fewer replicas must be wanted before some are stopped."`
	DownscaleToZeroDelay  *float64       `json:"downscale_to_zero_delay_s,omitempty" kind:"duration" bounds:"0s 24h" jsonschema_description:"The same for the step from one replica to none. downscale_delay_s by default."`
	UpscalingFactor       float64        `json:"upscaling_factor" kind:"number" bounds:"0 100" jsonschema_description:"Multiplies the distance to a greater number of replicas. 1 goes there at once."`
	DownscalingFactor     float64        `json:"downscaling_factor" kind:"number" bounds:"0 100" jsonschema_description:"The same for a smaller number."`
	LookBackPeriod        float64        `json:"look_back_period_s" kind:"duration" bounds:"100ms 24h" jsonschema_description:"The period whose load decides about fewer replicas."`
	Schedules             []ScheduleView `json:"schedules,omitempty" kind:"schedules" jsonschema_description:"Times at which other bounds hold."`
}

// ScheduleView is a schedule of autoscaling in the keys of the fleet file.
type ScheduleView struct {
	Cron        string `json:"cron" kind:"string" jsonschema:"required" jsonschema_description:"When it begins: minute, hour, day of month, month, day of week."`
	Timezone    string `json:"timezone,omitempty" kind:"string" jsonschema_description:"The time zone, such as Europe/Berlin. UTC by default."`
	For         string `json:"for" kind:"duration" bounds:"1m 8784h" jsonschema:"required" jsonschema_description:"How long it lasts."`
	MinReplicas *int   `json:"min_replicas,omitempty" kind:"count" bounds:"0 10000" jsonschema_description:"Least number of replicas meanwhile."`
	MaxReplicas *int   `json:"max_replicas,omitempty" kind:"count" bounds:"1 10000" jsonschema_description:"Greatest number of replicas meanwhile."`
}

// UpdateView is the update policy in the keys of the fleet file.
type UpdateView struct {
	MaxSurge         any          `json:"max_surge" kind:"amount" bounds:"0 10000" jsonschema_description:"Replicas more than wanted during an update: a number, or a share such as 25%, rounded up."`
	MaxUnavailable   any          `json:"max_unavailable" kind:"amount" bounds:"0 10000" jsonschema_description:"Replicas fewer than wanted during an update: a number, or a share, rounded down."`
	MinReady         string       `json:"min_ready" kind:"duration" bounds:"0s 24h" jsonschema_description:"How long a new replica must be ready and healthy before an old one goes."`
	ProgressDeadline string       `json:"progress_deadline" kind:"duration" bounds:"1s 720h" jsonschema_description:"How long an update may go without progress before it is rolled back. Pulls do not count."`
	Verify           []VerifyView `json:"verify,omitempty" kind:"verify" jsonschema_description:"Calls to the first new replica, before it gets any other."`
	OnBreakingTools  string       `json:"on_breaking_tools" kind:"choice" bounds:"warn hold" jsonschema_description:"What is done about tools that have changed so that callers may break: warn says so, hold waits for rollout resume."`
	Canary           *CanaryView  `json:"canary,omitempty" kind:"mapping" jsonschema_description:"Sends the new revision a growing share of the calls."`
}

// VerifyView is one call that checks a new revision, in the keys of the fleet file.
type VerifyView struct {
	Tool   string          `json:"tool" kind:"string" jsonschema:"required"`
	Args   json.RawMessage `json:"args,omitempty" kind:"object" jsonschema_description:"Arguments of the tool. None by default."`
	Expect string          `json:"expect,omitempty" kind:"string" jsonschema_description:"ok, a text that the result contains, or cel: and a CEL expression over the result. ok by default."`
}

// CanaryView is a canary in the keys of the fleet file.
type CanaryView struct {
	Steps []string `json:"steps" kind:"shares" jsonschema:"required" jsonschema_description:"Growing shares of the calls, such as 5%."`
	Hold  string   `json:"hold" kind:"duration" bounds:"0s 720h" jsonschema_description:"How long each step lasts."`
	Gate  string   `json:"gate" kind:"choice" bounds:"auto manual" jsonschema_description:"auto: the next step follows unless the new revision is worse. manual: it waits for rollout resume."`
}

func autoscalingView(a *fleet.Autoscaling) *AutoscalingView {
	if a == nil {
		return nil
	}
	v := &AutoscalingView{
		MinReplicas: a.MinReplicas, InitialReplicas: a.InitialReplicas, MaxReplicas: a.MaxReplicas, TargetOngoingRequests: a.TargetOngoing,
		UpscaleDelay: a.UpscaleDelay.Seconds(), DownscaleDelay: a.DownscaleDelay.Seconds(),
		UpscalingFactor: a.UpscalingFactor, DownscalingFactor: a.DownscalingFactor, LookBackPeriod: a.LookBack.Seconds(),
	}
	if a.DownscaleToZeroDelay != nil {
		v.DownscaleToZeroDelay = new(a.DownscaleToZeroDelay.Seconds())
	}
	for _, s := range a.Schedules {
		v.Schedules = append(v.Schedules, ScheduleView{
			Cron: s.Cron, Timezone: s.Timezone, For: s.For.String(), MinReplicas: s.MinReplicas, MaxReplicas: s.MaxReplicas,
		})
	}
	return v
}

func updateView(u fleet.Update) *UpdateView {
	v := &UpdateView{
		MaxSurge: amountView(u.MaxSurge), MaxUnavailable: amountView(u.MaxUnavailable), MinReady: u.MinReady.String(),
		ProgressDeadline: u.ProgressDeadline.String(), OnBreakingTools: u.OnBreakingTools, Canary: canaryView(u.Canary),
	}
	for _, c := range u.Verify {
		v.Verify = append(v.Verify, VerifyView(c))
	}
	return v
}

func canaryView(c *fleet.Canary) *CanaryView {
	if c == nil {
		return nil
	}
	v := &CanaryView{Hold: c.Hold.String(), Gate: c.Gate, Steps: []string{}}
	for _, share := range c.Steps {
		v.Steps = append(v.Steps, fleet.Amount{Percent: share}.String())
	}
	return v
}

// amountView returns a number, or a share such as 25%.
func amountView(a fleet.Amount) any {
	if a.Count == 0 && a.Percent != 0 {
		return a.String()
	}
	return a.Count
}
