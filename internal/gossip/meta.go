package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// meta describes a member besides its name. Its keys are short because memberlist
// allows 512 bytes, and panics beyond that.
type meta struct {
	Role    fleet.Role `json:"r"`
	GRPC    string     `json:"g,omitempty"`
	HTTP    string     `json:"h,omitempty"`
	PID     int        `json:"p,omitempty"`
	Started int64      `json:"s"` // unix nanoseconds

	Controller fleet.ControllerID `json:"c,omitempty"`
	Raft       string             `json:"a,omitempty"`
	Cluster    fleet.ClusterID    `json:"k,omitempty"`
	Expect     int                `json:"e,omitempty"`
	Format     int                `json:"f,omitempty"`
	Version    string             `json:"v,omitempty"`
}

// ringName returns a member's name in the ring. The life is part of it because
// memberlist refuses a name that it knows at another address.
func ringName(m fleet.Member) string { return string(m.Node) + "/" + string(m.Life) }

func encodeMeta(m fleet.Member) ([]byte, error) {
	if m.Node == "" || m.Life == "" {
		return nil, errors.New("a member of the ring needs a node name and a life")
	}
	if m.Role != fleet.RoleController && m.Role != fleet.RoleWorker {
		return nil, fmt.Errorf("unknown role %q", m.Role)
	}
	if n := len(ringName(m)); n > 255 {
		return nil, fmt.Errorf("node name and life are %d bytes long, 255 are allowed", n)
	}
	b, err := json.Marshal(meta{
		m.Role, m.GRPC, m.HTTP, m.PID, m.Started.UnixNano(), m.Controller, m.Raft, m.Cluster, m.Expect, m.Format, m.Version,
	})
	if err != nil {
		return nil, err
	}
	if len(b) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("description of node %s is %d bytes long, %d are allowed: use shorter addresses (grpc %q, http %q, raft %q)",
			m.Node, len(b), memberlist.MetaMaxSize, m.GRPC, m.HTTP, m.Raft)
	}
	return b, nil
}

func decodeMember(name string, b []byte) (fleet.Member, error) {
	i := strings.LastIndexByte(name, '/')
	if i <= 0 || i == len(name)-1 {
		return fleet.Member{}, fmt.Errorf("name %q is not node/life", name)
	}
	var d meta
	if err := json.Unmarshal(b, &d); err != nil {
		return fleet.Member{}, fmt.Errorf("decode description: %w", err)
	}
	return fleet.Member{
		Node: fleet.NodeID(name[:i]), Life: fleet.LifeID(name[i+1:]), Role: d.Role,
		GRPC: d.GRPC, HTTP: d.HTTP, PID: d.PID, Started: time.Unix(0, d.Started),
		Controller: d.Controller, Raft: d.Raft, Cluster: d.Cluster, Expect: d.Expect, Format: d.Format, Version: d.Version,
	}, nil
}

// metaDelegate gives memberlist our meta, and uses nothing else of Delegate.
type metaDelegate struct{ meta atomic.Pointer[[]byte] }

func (d *metaDelegate) NodeMeta(int) []byte           { return *d.meta.Load() }
func (*metaDelegate) NotifyMsg([]byte)                {}
func (*metaDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (*metaDelegate) LocalState(bool) []byte          { return nil }
func (*metaDelegate) MergeRemoteState([]byte, bool)   {}
