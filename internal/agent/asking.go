package agent

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

const (
	// maxRounds is how often a server may ask for input during one call, and maxAsks how
	// many requests it may make each time.
	maxRounds = 16
	maxAsks   = 64
)

// asking turns each result of a call that asks for input into requests to the client, on the
// call's stream. When all are answered it sends the call again, with the answers. The
// client and the call's caller see one call.
type asking struct {
	c      *call
	life   fleet.LifeID
	params []byte // the client's

	mu      sync.Mutex
	pending *stdio.Pending // the present round; nil while none runs
	waiting bool           // for answers of the client
	gaveUp  *surrender     // nil until the call is given up
	over    bool           // while it was waiting
	rounds  int
	asked   uint64
	open    map[uint64]ask // requests without an answer
	input   mcp.InputResponses
}

// surrender says how a call was given up.
type surrender struct {
	timeout bool
	reason  string
}

// ask is a request to the client that has no answer yet.
type ask struct {
	id          []byte // raw
	key, method string
}

// askings are the calls of a replica that wait for their clients.
type askings struct {
	mu    sync.Mutex
	all   map[*asking]struct{}
	ended bool
}

// begin is called when a process of the replica runs.
func (as *askings) begin() {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.ended = false
}

// add reports false if the replica has ended.
func (as *askings) add(k *asking) bool {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.all == nil {
		as.all = map[*asking]struct{}{}
	}
	as.all[k] = struct{}{}
	return !as.ended
}

// count returns how many calls the server is not working on meanwhile.
func (as *askings) count() int64 {
	as.mu.Lock()
	defer as.mu.Unlock()
	return int64(len(as.all))
}

func (as *askings) remove(k *asking) {
	as.mu.Lock()
	defer as.mu.Unlock()
	delete(as.all, k)
}

// end ends the calls, because the replica has ended.
func (as *askings) end() {
	as.mu.Lock()
	as.ended = true
	all := slices.Collect(maps.Keys(as.all))
	as.mu.Unlock()
	for _, k := range all {
		k.end(stdio.Reply{Err: stdio.ErrLost, Delivered: true})
	}
}

// round is one request to the server.
type round struct {
	k    *asking
	msg  stdio.Call
	done bool // under k.mu
	last bool // its reply ended the call
}

func newAsking(c *call, life fleet.LifeID) *asking {
	return &asking{c: c, life: life, params: c.msg.Params, open: map[uint64]ask{}}
}

// start sends the call with these params.
func (k *asking) start(params []byte) error {
	r := &round{k: k, msg: k.c.msg}
	r.msg.Params, r.msg.Done, r.msg.Released = params, r.replied, r.released
	pending, err := k.c.r.conn.Start(&r.msg)
	if err != nil {
		return err
	}
	k.mu.Lock()
	var gaveUp *surrender
	if !r.done {
		k.pending, gaveUp = pending, k.gaveUp
	}
	k.mu.Unlock()
	if gaveUp != nil {
		k.c.give(pending, gaveUp.timeout, gaveUp.reason)
	}
	return nil
}

// replied takes the server's reply to one round.
func (r *round) replied(reply stdio.Reply) {
	k := r.k
	var required *mcp.InputRequired
	if reply.Err == nil && reply.Result != nil && mcp.ResultType(reply.Result) == mcp.ResultInputRequired {
		var err error
		required, err = mcp.ParseInputRequired(reply.Result)
		if err == nil && len(required.Requests) > maxAsks {
			err = fmt.Errorf("more than %d requests at once", maxAsks)
		}
		if err != nil {
			required = nil
			reply.Release()
			reply = stdio.Reply{Err: fmt.Errorf("%w: it asks for input: %w", stdio.ErrBadReply, err), Delivered: true}
		}
	}
	k.mu.Lock()
	r.done, k.pending = true, nil
	r.last = required == nil
	gaveUp := k.gaveUp
	if k.rounds++; !r.last && k.rounds > maxRounds {
		r.last = true
		reply.Release()
		reply = refusal(fmt.Sprintf("the server asked for input more than %d times", maxRounds), nil)
	}
	if !r.last && gaveUp != nil {
		r.last = true
		reply.Release()
		reply = stdio.Reply{Err: stdio.ErrCancelled}
	}
	if !r.last {
		k.waiting = true
		k.input = mcp.InputResponses{State: required.State}
	}
	k.mu.Unlock()
	if r.last {
		if gaveUp != nil && gaveUp.timeout {
			k.c.timeout.Store(true)
		}
		k.c.done(reply)
		return
	}
	reply.Release() // the stream counts the requests
	if !k.c.r.askings.add(k) {
		k.end(stdio.Reply{Err: stdio.ErrLost, Delivered: true})
		return
	}
	k.ask(required.Requests)
}

// end ends the call if it waits for the client.
func (k *asking) end(reply stdio.Reply) bool {
	k.mu.Lock()
	ends := k.waiting && !k.over
	if ends {
		k.over, k.waiting = true, false
	}
	k.mu.Unlock()
	if ends {
		k.c.r.askings.remove(k)
		k.c.done(reply)
	}
	return ends
}

// released passes the release of the round on that ended the call.
func (r *round) released() {
	if r.last {
		r.k.c.released()
	}
}

// ask sends requests to the client.
func (k *asking) ask(requests []mcp.InputRequest) {
	events := make([]fleet.CallEvent, 0, len(requests))
	k.mu.Lock()
	for _, r := range requests {
		k.asked++
		id := fleet.AskID{Life: k.life, Stream: k.c.stream.id, N: k.asked}
		raw := mcp.AppendString(nil, id.String())
		k.open[k.asked] = ask{id: raw, key: r.Key, method: r.Method}
		events = append(events, fleet.CallEvent{
			Kind: fleet.CallAsk, ID: raw, Method: r.Method, Params: mcp.AskParams(r, id.String()), Ongoing: int(k.c.r.ongoing.Load()),
		})
	}
	k.mu.Unlock()
	for _, e := range events {
		k.c.events(e)
	}
	if len(requests) == 0 {
		k.goOn()
	}
}

// answer takes the client's answer to a request. An error of the client ends the call.
func (k *asking) answer(a fleet.Answer) error {
	if a.Error == nil {
		if _, err := mcp.Fields(a.Result); err != nil {
			return fmt.Errorf("%w: result: %w", fleet.ErrInvalid, err)
		}
	}
	k.mu.Lock()
	asked, waits := k.open[a.N]
	if !waits || k.over {
		k.mu.Unlock()
		return fleet.ErrNotAsked
	}
	delete(k.open, a.N)
	if a.Error != nil {
		k.mu.Unlock()
		k.end(refusal("the client refused "+asked.method, a.Error))
		return nil
	}
	k.input.Responses = append(k.input.Responses, mcp.InputResponse{Key: asked.key, Result: a.Result})
	last := len(k.open) == 0
	k.mu.Unlock()
	k.c.stream.answered(asked.id)
	if last {
		k.goOn()
	}
	return nil
}

// goOn sends the call again, with the answers.
func (k *asking) goOn() {
	k.mu.Lock()
	if k.over {
		k.mu.Unlock()
		return
	}
	k.waiting = false
	input := k.input
	k.mu.Unlock()
	k.c.r.askings.remove(k)
	params, err := mcp.WithInputResponses(k.params, &input)
	if err == nil {
		k.c.events(fleet.CallEvent{Kind: fleet.CallResumed, Ongoing: int(k.c.r.ongoing.Load())})
		err = k.start(params)
	}
	if err != nil {
		k.c.done(stdio.Reply{Err: err, Delivered: true})
	}
}

// cancel gives the call up, also while it waits for the client.
func (k *asking) cancel(timeout bool, reason string) {
	k.mu.Lock()
	if k.gaveUp == nil {
		k.gaveUp = &surrender{timeout, reason}
	}
	pending, waits := k.pending, k.waiting
	k.mu.Unlock()
	if waits && timeout {
		k.c.timeout.Store(true)
	}
	switch {
	case k.end(stdio.Reply{Err: stdio.ErrCancelled}):
	case pending != nil:
		k.c.give(pending, timeout, reason)
	}
}

// refusal ends a call with an error of ours. data is raw JSON, or nil.
func refusal(message string, data []byte) stdio.Reply {
	e := mcp.Error{Code: mcp.CodeInternalError, Message: message, Data: data}
	return stdio.Reply{Error: e.Append(nil), Delivered: true}
}
