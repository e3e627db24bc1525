package mcphttp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// parkWindow is how long a parked call waits for its client, unless Config says otherwise.
const parkWindow = 10 * time.Minute

var (
	errUsed = failuref(http.StatusOK, mcp.CodeInvalidParams, "Invalid params: requestState was used before")
	errGone = &web.Error{
		Status: http.StatusBadGateway, Code: api.CodeReplicaLost,
		Detail: "the call that waited for these answers is lost: its replica has ended, or they came too late. It may have run in part",
	}
)

// sendAlone sends a request of a modern client to a legacy server whose sessions have
// replicas to themselves. The request gets a session of its own, in which the server may
// ask the client: the call is then parked, and the client's retry takes it up. A request
// that may run twice is sent again once if its replica is lost.
func (f *Front) sendAlone(ctx context.Context, p *reply, q *query, m *message, dest fleet.Destination, info *fleet.ViewInfo) outcome {
	input, err := mcp.ParseInputResponses(m.params)
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}
	}
	if input.State != nil && mcp.MayRequireInput(m.method) {
		return f.takeUp(ctx, p, m, info, input)
	}
	params, err := mcp.ParamsToLegacy(m.method, m.params)
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}
	}
	repeat := dest.Idempotent || repeatable[m.method]
	for n := 0; ; n++ {
		out := f.callAlone(ctx, p, q, m, params, dest, info)
		lost := errors.Is(out.err, fleet.ErrSessionLost) // before the call was there
		switch {
		case n == 0 && ctx.Err() == nil && (lost || repeat && errors.Is(out.err, fleet.ErrReplicaLost)):
		case lost:
			return outcome{err: errGone}
		default:
			return out
		}
	}
}

// callAlone sends a request to a replica of its own, once.
func (f *Front) callAlone(ctx context.Context, p *reply, q *query, m *message, params []byte, dest fleet.Destination, info *fleet.ViewInfo) outcome {
	call := &parked{session: fleet.NewSessionID(), server: dest.Server, at: fleet.EventID{Stream: fleet.NewStreamID()}, caller: fleet.Anonymous}
	request := fleet.SessionRequest{
		Server: dest.Server, Session: call.session, Until: time.Now().Add(fleet.OnceKept), Caller: fleet.Anonymous,
		Initialize: mcp.OneLine(mcp.InitializeParamsOf(&m.meta, mcp.Implementation{Name: "mcpfleet", Version: f.cfg.Version})),
		Restore:    fleet.Restore{Level: m.meta.Level()}, Once: true,
	}
	p.start()
	var given fleet.SessionGiven
	var err error
	progressOf(p, m).during(ctx, waitsForOwn, func() { given, err = f.openSession(ctx, request, q.timeout) })
	if err != nil || given.Error != nil {
		f.forget(call) // perhaps a replica is being given to it
		if err == nil {
			return outcome{refusal: mcp.ErrorToModern(given.Error)}
		}
		return outcome{err: causeAt(ctx, err)}
	}
	call.replica = given.Replica
	g, waiting := f.gather(ctx, p, m)
	out := f.forward(waiting, p, q, dest, m, params, fleet.Call{
		Session: call.session, Message: g.message, Sent: g.sent,
		Stream: fleet.StreamRequest{ID: call.at.Stream, Owner: string(call.session), Window: f.cfg.ParkWindow, Keep: true},
	})
	return f.concluded(ctx, waiting, g, call, out, m, info)
}

// concluded returns the answer to a request whose call has ended, or was parked.
func (f *Front) concluded(ctx, waiting context.Context, g *gathering, call *parked, out outcome, m *message, info *fleet.ViewInfo) outcome {
	isParked := out.err != nil && errors.Is(context.Cause(waiting), errParked)
	requests, worker, seq := g.end()
	if isParked && ctx.Err() == nil && len(requests) > 0 {
		call.at.Seq, call.last = requests[0].Seq-1, seq
		if worker != "" {
			call.at.Life = worker
		}
		asked, ok := f.askClient(call, requests, m, info)
		if ok {
			return asked
		}
		out = asked
	}
	if ctx.Err() != nil { // the client has cancelled: its server hears of that before it is stopped
		f.cfg.Streams.CancelCalls(context.WithoutCancel(ctx), call.at.Stream, string(call.session), "")
	}
	f.forget(call)
	if asks, ok := f.askVisit(out, info, m); ok {
		return asks
	}
	return f.completed(out, info, m)
}

// forget ends the session of a call. Its replica is stopped.
func (f *Front) forget(call *parked) {
	f.owned.forget(ownedKey{call.session, call.server})
	f.cfg.Sessions.End(call.session, time.Now().Add(fleet.OnceKept))
}

// askClient returns the result that asks the client what a server wants to know. It
// reports false if the client cannot be asked, with the error to answer instead.
func (f *Front) askClient(call *parked, requests []fleet.Message, m *message, info *fleet.ViewInfo) (outcome, bool) {
	if !mcp.MayRequireInput(m.method) {
		return outcome{err: failuref(http.StatusOK, mcp.CodeInternalError, "the server wants to ask the client something, which the protocol does not allow for %s", m.method)}, false
	}
	identity, err := identify(m.method, m.params)
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}, false
	}
	q := questions{capabilities: m.meta.Capabilities}
	for i := range requests {
		if fault := q.add(&requests[i]); fault != nil {
			return modernFault(fault), false
		}
	}
	call.identity, call.expires, call.asked = identity, time.Now().Add(f.cfg.ParkWindow), q.asked
	state, err := f.park(call)
	if err != nil {
		return outcome{err: err}, false
	}
	result, err := mcp.ResultToModern(q.result(state), mcp.Completion{ServerInfo: f.serverInfo(info)})
	return outcome{result: result, err: err}, err == nil
}

// modernFault returns the answer to a request that its client could not be asked about.
func modernFault(fault *mcp.Error) outcome {
	status := http.StatusOK
	if fault.Code == mcp.CodeMissingCapability {
		status = http.StatusBadRequest
	}
	return outcome{err: &failure{status, *fault}}
}

// takeUp continues a parked call with the client's answers. If some are missing, the
// client is asked again.
func (f *Front) takeUp(ctx context.Context, p *reply, m *message, info *fleet.ViewInfo, input *mcp.InputResponses) outcome {
	call, err := f.unpark(input.State, fleet.Anonymous, m.method, m.params, time.Now())
	if err != nil {
		return outcome{err: err}
	}
	var answers [][]byte
	for _, a := range call.asked {
		if result := input.Result(a.key); result != nil {
			answers = append(answers, mcp.OneLine(mcp.AppendResult(nil, a.id, result)))
		}
	}
	read := fleet.ReadRequest{Stream: call.at.Stream, Owner: string(call.session), After: call.last, Claim: true}
	if len(answers) < len(call.asked) {
		answers, read.After, read.Claim = nil, call.at.Seq, false
	}
	g, reading := f.gather(ctx, p, m)
	g.seq = read.After
	p.start()
	var out outcome
	err = f.cfg.Streams.ReadStream(reading, call.at.Life, read, func(messages []fleet.Message) error {
		if messages == nil { // the stream was found, and is ours
			if err := f.answer(reading, call, answers, g); err != nil {
				return err
			}
		}
		for i := range messages {
			if r := &messages[i]; r.Kind == fleet.MessageReply {
				out = outcome{result: r.Result, refusal: r.Error, err: r.Err}
			} else {
				g.message(*r)
			}
		}
		return nil
	})
	switch {
	case out.result != nil || out.refusal != nil || out.err != nil:
	case errors.Is(err, fleet.ErrClaimed):
		g.end()
		return outcome{err: errUsed}
	case errors.Is(err, fleet.ErrStreamTaken):
		g.end()
		return outcome{err: errUsed} // another retry was faster
	case errors.Is(err, fleet.ErrUnknownStream), errors.Is(context.Cause(reading), errGone):
		out.err = errGone
	default:
		out.err = cause(ctx, err)
	}
	return f.concluded(ctx, reading, g, call, out, m, info)
}

// replyWait is how long the reply of a call may take to come whose replica has ended.
const replyWait = 5 * time.Second

// answer sends the client's answers to the replica of a parked call. The replica stops with
// its call. If it has ended, the reply is in the stream already, or is lost.
func (f *Front) answer(ctx context.Context, call *parked, answers [][]byte, g *gathering) error {
	for _, answer := range answers {
		err := f.cfg.Streams.SendToSession(ctx, call.session, call.replica, answer)
		switch {
		case errors.Is(err, fleet.ErrUnknownReplica):
			time.AfterFunc(replyWait, func() { g.park(errGone) }) // does nothing once the reply is here
			return nil
		case err != nil && !errors.Is(err, fleet.ErrNotAsked):
			return err
		}
	}
	return nil
}
