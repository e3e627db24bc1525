package events

import (
	"fmt"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Applied records what a command did to desired state. A refused or repeated
// command did nothing.
func (l *Log) Applied(r desired.Result) {
	if r.Err != nil || r.Repeated {
		return
	}
	for _, change := range r.Changes {
		l.Record(ofChange(change))
	}
}

// kinds has the events of the changes of desired state.
var kinds = map[desired.ChangeKind]fleet.EventKind{
	desired.Created:        fleet.EventServerCreated,
	desired.Updated:        fleet.EventServerUpdated,
	desired.Tuned:          fleet.EventServerTuned,
	desired.Deleted:        fleet.EventServerDeleted,
	desired.Scaled:         fleet.EventServerScaled,
	desired.Restarted:      fleet.EventServerRestarted,
	desired.RolledBack:     fleet.EventServerRolledBack,
	desired.RolledOut:      fleet.EventServerRolledOut,
	desired.DefaultSet:     fleet.EventServerDefaultSet,
	desired.GatewaySet:     fleet.EventGatewaySet,
	desired.GatewayRemoved: fleet.EventGatewayRemoved,
	desired.FloorSet:       fleet.EventServerFloorSet,
	desired.Cordoned:       fleet.EventNodeCordoned,
	desired.Uncordoned:     fleet.EventNodeUncordoned,
	desired.Draining:       fleet.EventNodeDraining,

	desired.RolloutPaused:   fleet.EventRolloutPaused,
	desired.RolloutResumed:  fleet.EventRolloutResumed,
	desired.RolloutHeld:     fleet.EventRolloutHeld,
	desired.RolloutAdvanced: fleet.EventRolloutAdvanced,
}

// ofChange returns the event of one change of desired state.
func ofChange(c desired.Change) Event {
	e := Event{
		Kind: kinds[c.Kind], Server: c.Server, Node: c.Node, Revision: c.Revision,
		Message: c.Subject().String() + " " + strings.ReplaceAll(strings.TrimPrefix(string(c.Kind), "gateway_"), "_", " "),
	}
	switch c.Kind {
	case desired.Updated, desired.RolledBack, desired.RolledOut, desired.RolloutPaused, desired.RolloutResumed, desired.RolloutHeld, desired.RolloutAdvanced:
		e.Message += fmt.Sprintf(": revision %d", c.Revision)
	case desired.Scaled:
		for _, f := range c.Fields {
			e.Message += fmt.Sprintf(" from %s to %s", f.From, f.To)
		}
		c.Fields = nil
	}
	if len(c.Fields) > 0 {
		fields := make([]string, len(c.Fields))
		for i, f := range c.Fields {
			fields[i] = f.Field
		}
		e.Message += " (" + strings.Join(fields, ", ") + ")"
	}
	if c.Reason != "" {
		e.Message += ": " + c.Reason
	}
	return e
}

// LeaderElected returns the event of the tenure that a state is in.
func LeaderElected(st *desired.State) Event {
	return Event{
		Kind: fleet.EventLeaderElected, Node: st.Lead.Name,
		Message: fmt.Sprintf("controller %s leads in term %d", st.Lead.Name, st.Lead.Term),
	}
}
