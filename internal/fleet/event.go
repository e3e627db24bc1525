package fleet

// EventKind is the kind of an event: one word, for programs. docs/HTTP.md
// lists all of them.
type EventKind string

// Events of replicas.
const (
	EventReplicaStarted   EventKind = "replica_started" // ordered, by the leader
	EventReplicaReady     EventKind = "replica_ready"
	EventReplicaActivated EventKind = "replica_activated" // a warm spare takes calls from now on
	EventReplicaUnhealthy EventKind = "replica_unhealthy"
	EventReplicaFailed    EventKind = "replica_failed"  // ended by itself, or with its node
	EventReplicaStopped   EventKind = "replica_stopped" // ended as it was told to
)

// Events of servers. Those of writes are made of the kind of change.
const (
	EventServerState      EventKind = "server_state"
	EventServerCreated    EventKind = "server_created"
	EventServerUpdated    EventKind = "server_updated"
	EventServerTuned      EventKind = "server_tuned"
	EventServerDeleted    EventKind = "server_deleted"
	EventServerScaled     EventKind = "server_scaled"
	EventServerRestarted  EventKind = "server_restarted"
	EventServerRolledBack EventKind = "server_rolled_back"
	EventServerRolledOut  EventKind = "server_rolled_out"
	EventServerDefaultSet EventKind = "server_default_set"
	EventServerFloorSet   EventKind = "server_floor_set"
	EventRolloutPaused    EventKind = "server_rollout_paused"
	EventRolloutResumed   EventKind = "server_rollout_resumed"
	EventRolloutHeld      EventKind = "server_rollout_held" // by the leader, until someone resumes it
	EventRolloutAdvanced  EventKind = "server_rollout_advanced"
	EventRolloutJudged    EventKind = "server_rollout_judged" // what the checks or the calls of a new revision say
	EventUnknownTool      EventKind = "unknown_tool"          // a spec or a gateway names a tool that is not listed
	EventInvalidTool      EventKind = "invalid_tool"          // a tool is left out for modern clients
)

// Events of sessions that have replicas to themselves.
const (
	EventSessionHealed EventKind = "session_healed" // got a fresh replica, because its own was lost
	EventSessionEnded  EventKind = "session_ended"  // by the leader: idle, or too old
)

// Events of gateways.
const (
	EventGatewaySet     EventKind = "gateway_set" // made or changed
	EventGatewayRemoved EventKind = "gateway_removed"
)

// Events of nodes.
const (
	EventNodeJoined     EventKind = "node_joined"   // in a new life
	EventNodeSilent     EventKind = "node_silent"   // cannot be reached: out of rotation
	EventNodeReturned   EventKind = "node_returned" // can be reached again
	EventNodeLost       EventKind = "node_lost"     // given up, with its replicas
	EventNodeLeft       EventKind = "node_left"     // after it had said so
	EventNodeDraining   EventKind = "node_draining" // its worker is stopping, or an operator drains it
	EventNodeCordoned   EventKind = "node_cordoned"
	EventNodeUncordoned EventKind = "node_uncordoned"
)

// Events of controllers.
const (
	EventLeaderElected      EventKind = "leader_elected"
	EventControllerAdded    EventKind = "controller_added"
	EventControllerPromoted EventKind = "controller_promoted"
	EventControllerRemoved  EventKind = "controller_removed"
	EventControllerLost     EventKind = "controller_lost"
	EventControllerBack     EventKind = "controller_back"
	EventControllerLagging  EventKind = "controller_lagging" // it does not store what the leader sends
	EventControllerCaughtUp EventKind = "controller_caught_up"
)
