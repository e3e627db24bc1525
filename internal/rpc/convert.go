package rpc

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

// Conversions between fleet and fleetpb come in pairs, xToPB and xFromPB. They share
// slices and maps with their argument. A nil message becomes a zero value. Text of
// servers and users is made valid UTF-8, which protobuf demands.

func orderToPB(o fleet.Order) *fleetpb.Order {
	return &fleetpb.Order{ClusterId: string(o.Cluster), Incarnation: uint64(o.Incarnation), Epoch: uint64(o.Epoch)}
}

func orderFromPB(p *fleetpb.Order) fleet.Order {
	return fleet.Order{
		Cluster: fleet.ClusterID(p.GetClusterId()), Incarnation: fleet.Incarnation(p.GetIncarnation()), Epoch: fleet.Epoch(p.GetEpoch()),
	}
}

func assignmentToPB(o fleet.Order, a fleet.Assignment) *fleetpb.StartReplicaRequest {
	return &fleetpb.StartReplicaRequest{
		Order: orderToPB(o), ReplicaId: string(a.ID), Server: string(a.Server),
		Revision: uint64(a.Revision), Generation: a.Generation, Template: templateToPB(a.Template), Spare: a.Spare,
		Era: string(a.Era), Raw: a.Raw,
	}
}

func assignmentFromPB(p *fleetpb.StartReplicaRequest) (fleet.Order, fleet.Assignment) {
	return orderFromPB(p.GetOrder()), fleet.Assignment{
		ID: fleet.ReplicaID(p.GetReplicaId()), Server: fleet.ServerName(p.GetServer()),
		Revision: fleet.Revision(p.GetRevision()), Generation: p.GetGeneration(), Template: templateFromPB(p.GetTemplate()),
		Spare: p.GetSpare(), Era: fleet.Era(p.GetEra()), Raw: p.GetRaw(),
	}
}

func templateToPB(t *fleet.Template) *fleetpb.Template {
	if t == nil {
		return nil
	}
	p := &fleetpb.Template{
		Image: t.Image, PullPolicy: string(t.PullPolicy), Entrypoint: t.Entrypoint, Command: t.Command, Args: t.Args,
		Env: t.Env, Cwd: t.Cwd, Network: t.Network, User: t.User, ReadOnly: t.ReadOnly, CapAdd: t.CapAdd, Devices: t.Devices, RunOptions: t.RunOptions,
		NewPrivileges: t.NewPrivileges, Resources: resourcesToPB(t.Resources), Labels: t.Labels, Sessions: t.Sessions,
		Health: &fleetpb.Health{
			Period: durationToPB(t.Health.Period), Timeout: durationToPB(t.Health.Timeout), Failures: int32(t.Health.Failures), Off: t.Health.Off,
		},
		StartTimeout: durationToPB(t.StartTimeout), StopGrace: durationToPB(t.StopGrace), DrainTimeout: durationToPB(t.DrainTimeout),
		Era: string(t.Era),
	}
	for _, m := range t.Mounts {
		p.Mounts = append(p.Mounts, &fleetpb.Mount{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Selinux: m.SELinux})
	}
	return p
}

func templateFromPB(p *fleetpb.Template) *fleet.Template {
	if p == nil {
		return nil
	}
	t := &fleet.Template{
		Image: p.Image, PullPolicy: fleet.PullPolicy(p.PullPolicy), Entrypoint: p.Entrypoint, Command: p.Command, Args: p.Args,
		Env: p.Env, Cwd: p.Cwd, Network: p.Network, User: p.User, ReadOnly: p.ReadOnly, CapAdd: p.CapAdd, Devices: p.Devices, RunOptions: p.RunOptions,
		NewPrivileges: p.NewPrivileges, Resources: resourcesFromPB(p.Resources), Labels: p.Labels, Sessions: p.Sessions,
		Health: fleet.Health{
			Period: p.Health.GetPeriod().AsDuration(), Timeout: p.Health.GetTimeout().AsDuration(), Failures: int(p.Health.GetFailures()), Off: p.Health.GetOff(),
		},
		StartTimeout: p.StartTimeout.AsDuration(), StopGrace: p.StopGrace.AsDuration(), DrainTimeout: p.DrainTimeout.AsDuration(),
		Era: fleet.Era(p.Era),
	}
	for _, m := range p.Mounts {
		t.Mounts = append(t.Mounts, fleet.Mount{Source: m.GetSource(), Target: m.GetTarget(), ReadOnly: m.GetReadOnly(), SELinux: m.GetSelinux()})
	}
	return t
}

func resourcesToPB(r fleet.Resources) *fleetpb.Resources {
	if r.IsZero() {
		return nil
	}
	return &fleetpb.Resources{Cpus: r.CPUs, Memory: r.Memory, Pids: r.PIDs, Custom: r.Custom}
}

func resourcesFromPB(p *fleetpb.Resources) fleet.Resources {
	return fleet.Resources{CPUs: p.GetCpus(), Memory: p.GetMemory(), PIDs: p.GetPids(), Custom: p.GetCustom()}
}

func reportToPB(r fleet.Report) *fleetpb.WatchResponse {
	p := &fleetpb.WatchResponse{
		Version: r.Version, Now: timeToPB(r.Now), Node: nodeToPB(r.Node), Full: r.Full, Draining: r.Draining, Unfit: r.Unfit,
		Streams: streamStatsToPB(r.Streams),
	}
	for i := range r.Replicas {
		p.Replicas = append(p.Replicas, replicaToPB(&r.Replicas[i]))
	}
	for i := range r.Catalogues {
		p.Catalogues = append(p.Catalogues, catalogueToPB(&r.Catalogues[i]))
	}
	for _, id := range r.Forgotten {
		p.Forgotten = append(p.Forgotten, string(id))
	}
	return p
}

// reportFromPB needs the node's name for the replicas. Only the first report of a
// watch has it.
func reportFromPB(p *fleetpb.WatchResponse, node fleet.NodeID) fleet.Report {
	r := fleet.Report{
		Version: p.GetVersion(), Now: timeFromPB(p.GetNow()), Node: nodeFromPB(p.GetNode()), Full: p.GetFull(), Draining: p.GetDraining(), Unfit: p.GetUnfit(),
		Streams: streamStatsFromPB(p.GetStreams()),
	}
	for _, x := range p.GetReplicas() {
		r.Replicas = append(r.Replicas, replicaFromPB(x, node))
	}
	for _, x := range p.GetCatalogues() {
		r.Catalogues = append(r.Catalogues, catalogueFromPB(x))
	}
	for _, id := range p.GetForgotten() {
		r.Forgotten = append(r.Forgotten, fleet.ReplicaID(id))
	}
	return r
}

func nodeToPB(n *fleet.NodeInfo) *fleetpb.Node {
	if n == nil {
		return nil
	}
	return &fleetpb.Node{
		Node: string(n.Node), Life: string(n.Life), Pid: int64(n.PID), Zone: n.Zone, Labels: n.Labels,
		Capacity: resourcesToPB(n.Capacity), Runtime: strings.Join(n.Runtimes, ","), Runtimes: n.Runtimes,
		Version: n.Version, Grpc: n.GRPC, StartTook: durationToPB(n.StartTook), Sessions: n.Sessions,
	}
}

func nodeFromPB(p *fleetpb.Node) *fleet.NodeInfo {
	if p == nil {
		return nil
	}
	runtimes := p.Runtimes
	if len(runtimes) == 0 && p.Runtime != "" { // an older worker
		runtimes = []string{p.Runtime}
	}
	return &fleet.NodeInfo{
		Node: fleet.NodeID(p.Node), Life: fleet.LifeID(p.Life), PID: int(p.Pid), Zone: p.Zone, Labels: p.Labels,
		Capacity: resourcesFromPB(p.Capacity), Runtimes: runtimes, Version: p.Version, GRPC: p.Grpc,
		StartTook: p.StartTook.AsDuration(), Sessions: p.Sessions,
	}
}

func replicaToPB(r *fleet.Replica) *fleetpb.Replica {
	p := &fleetpb.Replica{
		Id: string(r.ID), Server: string(r.Server), Revision: uint64(r.Revision), Generation: r.Generation,
		Phase: fleetpb.Phase(r.Phase), Reason: text(r.Reason), Unhealthy: r.Unhealthy, Pid: int64(r.PID), ContainerId: r.ContainerID,
		Ongoing: int64(r.Load.Ongoing), TotalCalls: r.Load.Total,
		CreatedAt: timeToPB(r.CreatedAt), ReadyAt: timeToPB(r.ReadyAt), EndedAt: timeToPB(r.EndedAt),
		Catalogue: r.Catalogue, Resources: resourcesToPB(r.Resources), Spare: r.Spare, Failing: r.Failing,
		Raw: r.Raw, Session: string(r.Session), SessionAt: timeToPB(r.SessionAt),
		ColdStart: coldStartToPB(r.ColdStart), Calls: callCountsToPB(&r.Calls),
	}
	if r.Usage != (fleet.Usage{}) {
		p.Usage = &fleetpb.Usage{Cpus: r.Usage.CPUs, Memory: r.Usage.Memory}
	}
	for _, l := range r.Log {
		p.Log = append(p.Log, text(l))
	}
	if e := r.Exit; e != nil {
		p.Exit = &fleetpb.Exit{Code: int32(e.Code), Signal: e.Signal, Oom: e.OOM, Requested: e.Requested, Err: text(e.Err)}
	}
	return p
}

func replicaFromPB(p *fleetpb.Replica, node fleet.NodeID) fleet.Replica {
	r := fleet.Replica{
		ID: fleet.ReplicaID(p.GetId()), Server: fleet.ServerName(p.GetServer()), Revision: fleet.Revision(p.GetRevision()),
		Generation: p.GetGeneration(), Node: node, Phase: fleet.Phase(p.GetPhase()), Reason: p.GetReason(), Unhealthy: p.GetUnhealthy(), PID: int(p.GetPid()),
		ContainerID: p.GetContainerId(), Load: fleet.Load{Ongoing: int(p.GetOngoing()), Total: p.GetTotalCalls()},
		CreatedAt: timeFromPB(p.GetCreatedAt()), ReadyAt: timeFromPB(p.GetReadyAt()), EndedAt: timeFromPB(p.GetEndedAt()),
		Catalogue: p.GetCatalogue(), Resources: resourcesFromPB(p.GetResources()), Log: p.GetLog(),
		Raw: p.GetRaw(), Session: fleet.SessionID(p.GetSession()), SessionAt: timeFromPB(p.GetSessionAt()),
		Spare: p.GetSpare(), Failing: p.GetFailing(), ColdStart: coldStartFromPB(p.GetColdStart()), Calls: callCountsFromPB(p.GetCalls()),
		Usage: fleet.Usage{CPUs: p.GetUsage().GetCpus(), Memory: p.GetUsage().GetMemory()},
	}
	if e := p.GetExit(); e != nil {
		r.Exit = &fleet.Exit{Code: int(e.Code), Signal: e.Signal, OOM: e.Oom, Requested: e.Requested, Err: e.Err}
	}
	return r
}

func coldStartToPB(c fleet.ColdStart) *fleetpb.ColdStart {
	if c == (fleet.ColdStart{}) {
		return nil
	}
	return &fleetpb.ColdStart{
		Place: durationToPB(c.Place), Pull: durationToPB(c.Pull), Create: durationToPB(c.Create),
		Start: durationToPB(c.Start), Handshake: durationToPB(c.Handshake), List: durationToPB(c.List),
	}
}

func coldStartFromPB(p *fleetpb.ColdStart) fleet.ColdStart {
	return fleet.ColdStart{
		Place: p.GetPlace().AsDuration(), Pull: p.GetPull().AsDuration(), Create: p.GetCreate().AsDuration(),
		Start: p.GetStart().AsDuration(), Handshake: p.GetHandshake().AsDuration(), List: p.GetList().AsDuration(),
	}
}

func callCountsToPB(c *fleet.CallCounts) *fleetpb.CallCounts {
	if c.OK|c.IsError|c.Error|c.TimedOut|c.Lost == 0 && len(c.Latency) == 0 {
		return nil
	}
	return &fleetpb.CallCounts{
		Ok: c.OK, IsError: c.IsError, Error: c.Error, TimedOut: c.TimedOut, Lost: c.Lost, Latency: c.Latency,
	}
}

func callCountsFromPB(p *fleetpb.CallCounts) fleet.CallCounts {
	return fleet.CallCounts{
		OK: p.GetOk(), IsError: p.GetIsError(), Error: p.GetError(), TimedOut: p.GetTimedOut(), Lost: p.GetLost(), Latency: p.GetLatency(),
	}
}

func linesToPB(lines []fleet.LogLine) *fleetpb.LogsResponse {
	p := &fleetpb.LogsResponse{Lines: make([]*fleetpb.LogLine, len(lines))}
	for i, l := range lines {
		p.Lines[i] = &fleetpb.LogLine{Time: timeToPB(l.Time), Text: text(l.Text)}
	}
	return p
}

func linesFromPB(p *fleetpb.LogsResponse) []fleet.LogLine {
	lines := make([]fleet.LogLine, len(p.GetLines()))
	for i, l := range p.GetLines() {
		lines[i] = fleet.LogLine{Time: timeFromPB(l.GetTime()), Text: l.GetText()}
	}
	return lines
}

func durationToPB(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func timeToPB(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func timeFromPB(p *timestamppb.Timestamp) time.Time {
	if p == nil {
		return time.Time{}
	}
	return p.AsTime()
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
