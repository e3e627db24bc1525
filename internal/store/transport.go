package store

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// transport is raft's network transport. It addresses peers by id.
type transport struct {
	*raft.NetworkTransport
	layer    *layer
	acks     acks
	moved    func()
	progress progress      // of peers, while this controller leads
	intake   intake        // from leaders, while it follows
	gaveUp   atomic.Uint64 // the last term whose leadership was given up
	watch    *diskWatch
	// Both are set before the layer is ready.
	term       func() uint64 // raft's
	replicates func(id raft.ServerID, term uint64) bool

	requests chan raft.RPC // to raft's main loop
	done     chan struct{} // closed by shut
	passing  sync.WaitGroup
}

func newTransport(dir *Dir, cfg Config, f *fsm, log *hclogger, watch *diskWatch, moved func()) *transport {
	l := &layer{
		Listener: cfg.Listener, dir: dir, dial: cfg.dial, open: make(map[net.Conn]struct{}), ready: make(chan struct{}),
		incarnation: func() fleet.Incarnation { return cmp.Or(f.State().Incarnation, dir.incarnation) }, outlived: f.fail,
	}
	if l.dial == nil {
		l.dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	t := &transport{
		layer: l, moved: moved, watch: watch, requests: make(chan raft.RPC), done: make(chan struct{}),
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			ServerAddressProvider: resolver(cfg.Resolve),
			Stream:                l,
			MaxPool:               3,
			Timeout:               dialTimeout,
			// No pipeline: if a follower refuses one entry while the next is on
			// its way, the sender waits for the reader, which has ended (raft 1.8:
			// netPipeline.AppendEntries, pipelineDecode). Nothing more is
			// replicated to that follower, and Shutdown waits forever. This was
			// seen on a network that lost 30 %.
			MaxRPCsInFlight: 1,
			Logger:          log,
		}),
	}
	t.passing.Go(t.receive)
	return t
}

const (
	minResend = 50 * time.Millisecond
	maxResend = 500 * time.Millisecond
)

// AppendEntries sends a part of the log until it is stored, as long as this
// controller leads and the other one is a member. Raft repeats it too, but waits up
// to 10 s after a few failures. A controller that comes back would receive
// heartbeats meanwhile, and not know what was written.
func (t *transport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if isHeartbeat(req) {
		return t.appendOnce(id, addr, req, resp)
	}
	t.progress.begin(id, req.Term, time.Now())
	for wait := minResend; ; wait = min(2*wait, maxResend) {
		err := t.appendOnce(id, addr, req, resp)
		if !errors.Is(err, errGaveUp) {
			t.progress.note(id, req, resp.Success, err, time.Now())
		}
		if err == nil || !t.again(id, req.Term, wait) {
			t.progress.end(id, req.Term, time.Now())
			return err
		}
	}
}

// again waits, and reports whether a failed request should be sent again.
func (t *transport) again(id raft.ServerID, term uint64, wait time.Duration) bool {
	select {
	case <-time.After(wait):
	case <-t.done:
		return false
	}
	select {
	case <-t.layer.ready:
		return t.replicates(id, term)
	case <-t.done:
		return false
	}
}

// appendOnce sends a request once and records the answer. Read needs answers to
// requests that were sent after it began.
func (t *transport) appendOnce(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if req.Term <= t.gaveUp.Load() {
		return errGaveUp
	}
	sent := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, addr, req, resp); err != nil {
		return err
	}
	if resp.Success && resp.Term == req.Term {
		t.acks.add(id, req.Term, sent)
		t.moved()
	}
	return nil
}

var errGaveUp = errors.New("leadership of this term was given up")

var errUnfit = errors.New("this controller does not stand for election: its disk just refused an entry")

// RequestPreVote asks another controller whether it would vote for this one.
func (t *transport) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !t.watch.mayStand() {
		return errUnfit
	}
	return t.NetworkTransport.RequestPreVote(id, addr, req, resp)
}

// RequestVote asks another controller for its vote.
func (t *transport) RequestVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !t.watch.mayStand() {
		return errUnfit
	}
	return t.NetworkTransport.RequestVote(id, addr, req, resp)
}

// isHeartbeat reports whether a request has no entries. Raft sends such requests
// separately, and answers them outside its main loop.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}

// Consumer returns the requests of other controllers.
func (t *transport) Consumer() <-chan raft.RPC { return t.requests }

// receive passes requests on to raft until the transport is shut.
func (t *transport) receive() {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			t.passing.Go(func() { t.pass(rpc) })
		case <-t.done:
			return
		}
	}
}

// pass lets raft's main loop answer a request. While the disk hangs, the main loop
// waits for it. The request is then refused at once with the cause, because waiting
// requests would pile up.
func (t *transport) pass(rpc raft.RPC) {
	hung := t.watch.hangs()
	if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		hung = nil // raft still reads the connection, which a refusal would release
	}
	answers := make(chan raft.RPCResponse, 1)
	inner := rpc
	inner.RespChan = answers
	select {
	case t.requests <- inner:
	case <-hung:
		t.refuse(rpc)
		return
	case <-t.done:
		return
	}
	select {
	case a := <-answers:
		if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok {
			a = t.stored(req, a)
		}
		rpc.Respond(a.Response, a.Error)
	case <-hung:
		t.refuse(rpc)
	case <-t.done:
	}
}

// stored records the outcome of entries that a leader sent, and returns the answer.
// If they could not be stored the answer says why. If they do not fit the local log
// raft's own answer is kept, whatever is wrong with the disk: it says which entries
// fit, and without it the leader would send the same entries forever.
func (t *transport) stored(req *raft.AppendEntriesRequest, a raft.RPCResponse) raft.RPCResponse {
	resp, ok := a.Response.(*raft.AppendEntriesResponse)
	if !ok || resp.Term > req.Term {
		return a // it no longer leads
	}
	success := a.Error == nil && resp.Success
	t.intake.heard(req.Term, req.LeaderCommitIndex, success, time.Now())
	if success {
		t.watch.upToDate()
		return a
	}
	if a.Error != nil || resp.NoRetryBackoff { // NoRetryBackoff: they do not fit
		return a
	}
	if p := t.watch.problem(); p != "" {
		a.Error = errors.New(p)
	}
	return a
}

// refuse answers a request that raft cannot answer because of the disk.
func (t *transport) refuse(rpc raft.RPC) {
	if req, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && req.Term > t.term() {
		t.intake.refused(raft.ServerID(req.ID), req.Term)
		t.moved()
	}
	p := t.watch.problem()
	if p == "" {
		p = "the disk did not answer"
	}
	rpc.Respond(nil, errors.New(p))
}

// SetHeartbeatHandler lets raft answer heartbeats outside its main loop. A heartbeat
// of a new leader is refused while the disk hangs, because raft would have to write
// the term first.
func (t *transport) SetHeartbeatHandler(answer func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		req, ok := rpc.Command.(*raft.AppendEntriesRequest)
		if ok && t.watch.isHung() && req.Term > t.term() {
			t.refuse(rpc)
			return
		}
		answer(rpc)
		if ok && req.Term == t.term() {
			t.intake.heard(req.Term, 0, false, time.Now())
		}
	})
}

// shut closes the listener and all connections, in both directions. Raft does not
// wait for them when it shuts down.
func (t *transport) shut() {
	t.layer.shut()
	t.CloseStreams()
	_ = t.Close() // the listener is closed already
	close(t.done)
	t.passing.Wait()
}

// resolver returns the address of a controller. It contains the controller's id,
// which is sent first on a connection.
type resolver func(fleet.ControllerID) (string, bool)

func (r resolver) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	// An unknown address is not an error here: raft would log it at each attempt
	// and dial the placeholder. Dial returns a better error.
	addr, _ := r(fleet.ControllerID(id))
	return raft.ServerAddress(string(id) + "@" + addr), nil
}
