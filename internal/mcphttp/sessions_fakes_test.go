package mcphttp

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/notice"
)

// known is what is known of sessions. Each session that asks for a replica gets one.
type known struct {
	notice.Board

	mu      sync.Mutex
	dead    map[fleet.SessionID]bool
	levels  map[fleet.SessionID]string
	subs    map[fleet.SessionID][]fleet.Subscription
	given   map[fleet.SessionID]fleet.SessionGiven
	opens   []fleet.SessionRequest
	refused []byte        // answer to initialize
	err     error         // of Open
	takes   time.Duration // Open does
	ended   func(fleet.SessionID)
	listens map[fleet.SessionID]fleet.LifeID
}

func newKnown() *known {
	return &known{
		dead: map[fleet.SessionID]bool{}, levels: map[fleet.SessionID]string{}, subs: map[fleet.SessionID][]fleet.Subscription{},
		given: map[fleet.SessionID]fleet.SessionGiven{}, listens: map[fleet.SessionID]fleet.LifeID{},
	}
}

func (k *known) Ended(id fleet.SessionID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead[id]
}

func (k *known) End(id fleet.SessionID, _ time.Time) {
	k.mu.Lock()
	k.dead[id] = true
	delete(k.given, id)
	ended := k.ended
	k.mu.Unlock()
	if ended != nil {
		ended(id)
	}
}

func (k *known) SetListener(id fleet.SessionID, _ time.Time, controller fleet.LifeID, listens bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if listens {
		k.listens[id] = controller
	} else if k.listens[id] == controller {
		delete(k.listens, id)
	}
}

func (k *known) Listener(id fleet.SessionID) fleet.LifeID {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listens[id]
}

func (k *known) OnEnd(ended func(fleet.SessionID)) { k.ended = ended }

func (k *known) Level(id fleet.SessionID) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.levels[id]
}

func (k *known) SetLevel(id fleet.SessionID, _ time.Time, level string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.levels[id] = level
}

func (k *known) Subscribe(id fleet.SessionID, _ time.Time, s fleet.Subscription) bool {
	k.mu.Lock()
	k.subs[id] = append(k.subs[id], s)
	k.mu.Unlock()
	k.Post()
	return true
}

func (k *known) Unsubscribe(id fleet.SessionID, _ time.Time, s fleet.Subscription) {
	k.mu.Lock()
	k.subs[id] = slices.DeleteFunc(slices.Clone(k.subs[id]), func(o fleet.Subscription) bool { return o == s })
	k.mu.Unlock()
	k.Post()
}

func (k *known) Subscriptions(id fleet.SessionID) []fleet.Subscription {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.subs[id])
}

func (k *known) Opened(id fleet.SessionID) (servers []fleet.ServerName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.opens {
		if o.Session == id && !slices.Contains(servers, o.Server) {
			servers = append(servers, o.Server)
		}
	}
	return servers
}

func (k *known) Touch(fleet.SessionID, time.Time) {}

func (k *known) Changed() (<-chan struct{}, func()) { return k.Board.Subscribe() }

func (k *known) Open(_ context.Context, r fleet.SessionRequest) (fleet.SessionGiven, error) {
	time.Sleep(k.takes)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opens = append(k.opens, r)
	if given, has := k.given[r.Session]; has {
		given.Again = true
		return given, nil
	}
	if k.err != nil || k.refused != nil {
		return fleet.SessionGiven{Error: k.refused}, k.err
	}
	healed := slices.ContainsFunc(k.opens[:len(k.opens)-1], func(o fleet.SessionRequest) bool { return o.Session == r.Session })
	given := fleet.SessionGiven{
		Replica: fleet.ReplicaID(fmt.Sprintf("r%d", len(k.opens))), Node: "n1", Healed: healed,
		Result: []byte(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"own","version":"1"}}`),
	}
	k.given[r.Session] = given
	return given, nil
}

// lose takes the replicas of all sessions away.
func (k *known) lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.given)
}

func (k *known) has(id fleet.SessionID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, has := k.given[id]
	return has
}
