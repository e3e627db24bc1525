package api

import (
	"maps"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// sessionShown is how much of a session's name is shown: enough to tell sessions apart.
const sessionShown = 8

// ReplicaOf converts the report of a replica.
func ReplicaOf(r *fleet.Replica) Replica {
	out := Replica{
		ID: r.ID, Server: r.Server, Revision: r.Revision, Node: r.Node,
		Phase: r.Phase.String(), Reason: r.Reason, Unhealthy: r.Unhealthy,
		Ongoing: r.Load.Ongoing, TotalCalls: r.Load.Total,
		StartedAt: timeOf(r.CreatedAt), ReadyAt: timeOf(r.ReadyAt), Spare: r.Spare, Session: string(r.Session[:min(sessionShown, len(r.Session))]),
		ColdStart: coldStartOf(r.ColdStart),
		Calls:     callsOf(&r.Calls),
	}
	if r.Usage != (fleet.Usage{}) {
		out.Usage = &Usage{CPUs: r.Usage.CPUs, Memory: r.Usage.Memory}
	}
	if r.PID > 0 && !r.Phase.Ended() {
		out.PID = &r.PID
	}
	if r.ContainerID != "" {
		out.ContainerID = &r.ContainerID
	}
	return out
}

func callsOf(c *fleet.CallCounts) Calls {
	return Calls{
		OK: c.OK, IsError: c.IsError, Error: c.Error, TimedOut: c.TimedOut, Lost: c.Lost,
		Latency: append([]uint64{}, c.Latency...),
	}
}

func coldStartOf(c fleet.ColdStart) ColdStart {
	return ColdStart{
		Place: c.Place.Seconds(), Pull: c.Pull.Seconds(), Create: c.Create.Seconds(),
		Start: c.Start.Seconds(), Handshake: c.Handshake.Seconds(), List: c.List.Seconds(),
	}
}

// EndedOf converts the report of a replica that ended.
func EndedOf(r *fleet.Replica) Ended {
	out := Ended{
		ID: r.ID, Revision: r.Revision, Node: r.Node, Phase: r.Phase.String(), Reason: r.Reason,
		StartedAt: timeOf(r.CreatedAt), ReadyAt: timeOf(r.ReadyAt), EndedAt: timeOf(r.EndedAt),
		Log: append([]string{}, r.Log...),
	}
	if e := r.Exit; e != nil {
		out.Exit = &Exit{Code: e.Code, Signal: e.Signal, OOM: e.OOM, Requested: e.Requested}
	}
	return out
}

// ResourcesOf converts an amount of resources.
func ResourcesOf(r fleet.Resources) Resources {
	custom := make(map[string]int64, len(r.Custom))
	maps.Copy(custom, r.Custom)
	return Resources{CPUs: r.CPUs, Memory: r.Memory, PIDs: r.PIDs, Custom: custom}
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
