package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

func joined(p ...mem.Buffer) []byte { return mem.BufferSlice(p).Materialize() }

// split is the message in single bytes, as the network may bring it.
func split(t *testing.T, m proto.Message) mem.BufferSlice {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var s mem.BufferSlice
	for i := range b {
		s = append(s, mem.SliceBuffer(b[i:i+1]))
	}
	return s
}

// The generated code reads the same as was written by hand.
func TestWireWrites(t *testing.T) {
	req := fleet.CallRequest{Replica: "r-1", Method: "tools/call", Params: []byte(`{"a":1}`), Trace: fleet.Trace{RequestID: "id\xff", Traceparent: "00-1"}, Notifications: true, NoMeta: true}
	got := new(fleetpb.CallsRequest)
	long := fleet.CallRequest{Params: payload(keepFrom)}
	streamed := aStreamedCall()
	b := joined(slices.Concat(encodeCall(1<<40, &req), encodeCancel(7, true), encodeCancel(8, false), encodeCall(2, &fleet.CallRequest{}), encodeCall(3, &long), encodeCall(4, &streamed))...)
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	want := &fleetpb.CallsRequest{Commands: []*fleetpb.CallCommand{
		{Msg: &fleetpb.CallCommand_Call{Call: &fleetpb.Call{Id: 1 << 40, ReplicaId: "r-1", Method: "tools/call",
			Params: []byte(`{"a":1}`), RequestId: "id\uFFFD", Traceparent: "00-1", Notifications: true, NoMeta: true}}},
		{Msg: &fleetpb.CallCommand_Cancel{Cancel: &fleetpb.Cancel{Id: 7, Timeout: true}}},
		{Msg: &fleetpb.CallCommand_Cancel{Cancel: &fleetpb.Cancel{Id: 8}}},
		{Msg: &fleetpb.CallCommand_Call{Call: &fleetpb.Call{Id: 2}}},
		{Msg: &fleetpb.CallCommand_Call{Call: &fleetpb.Call{Id: 3, Params: long.Params}}},
		{Msg: &fleetpb.CallCommand_Call{Call: aStreamedCallPB(4)}},
	}}
	if !proto.Equal(got, want) {
		t.Errorf("commands are %v, want %v", got, want)
	}

	var msg parts
	msg = appendEvent(msg, 1, &fleet.CallEvent{Kind: fleet.CallReply, Result: []byte("{}"), Ongoing: 300}, nil)
	msg = appendEvent(msg, 2, &fleet.CallEvent{Kind: fleet.CallReply, Error: []byte(`{"code":1}`), Ongoing: -1}, nil)
	msg = appendEvent(msg, 3, &fleet.CallEvent{Kind: fleet.CallReply, Err: fmt.Errorf("x: %w", fleet.ErrBadReply), Holding: true}, nil)
	msg = appendEvent(msg, 4, &fleet.CallEvent{Kind: fleet.CallReply}, &fleetpb.Large{Token: "t", Size: 9, Error: true})
	msg = appendEvent(msg, 5, &fleet.CallEvent{Kind: fleet.CallProgress, Ongoing: 1}, nil)
	msg = appendEvent(msg, 6, &fleet.CallEvent{Kind: fleet.CallReleased}, nil)
	msg = appendEvent(msg, 7, &fleet.CallEvent{Kind: fleet.CallNotification, Method: "n/x\xff", Params: []byte("{}"), Ongoing: 2}, nil)
	msg = appendEvent(msg, 8, &fleet.CallEvent{Kind: fleet.CallNotification, Method: "n", Seq: 3}, nil)
	msg = appendEvent(msg, 9, &fleet.CallEvent{Kind: fleet.CallAsk, ID: []byte(`"i"`), Method: "e/c", Params: []byte("{}"), Seq: 4, Ongoing: 2}, nil)
	msg = appendEvent(msg, 10, &fleet.CallEvent{Kind: fleet.CallResumed}, nil)
	msg = appendEvent(msg, 11, &fleet.CallEvent{Kind: fleet.CallReply, Result: []byte("{}"), Seq: 5}, nil)
	gotE := new(fleetpb.CallsResponse)
	if err := proto.Unmarshal(joined(msg...), gotE); err != nil {
		t.Fatal(err)
	}
	if wantE := someEvents(); !proto.Equal(gotE, wantE) {
		t.Errorf("events are %v, want %v", gotE, wantE)
	}
}

func someEvents() *fleetpb.CallsResponse {
	reply := func(r *fleetpb.Reply) *fleetpb.CallEvent_Reply { return &fleetpb.CallEvent_Reply{Reply: r} }
	return &fleetpb.CallsResponse{Events: []*fleetpb.CallEvent{
		{Id: 1, Ongoing: 300, Msg: reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Result{Result: []byte("{}")}})},
		{Id: 2, Ongoing: -1, Msg: reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Error{Error: []byte(`{"code":1}`)}})},
		{Id: 3, Holding: true, Msg: reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Failure{Failure: &fleetpb.Failure{
			Kinds:  []fleetpb.FailureKind{fleetpb.FailureKind_FAILURE_KIND_BAD_REPLY},
			Detail: "x: " + fleet.ErrBadReply.Error()}}})},
		{Id: 4, Msg: reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Large{Large: &fleetpb.Large{Token: "t", Size: 9, Error: true}}})},
		{Id: 5, Ongoing: 1, Msg: &fleetpb.CallEvent_Progress{Progress: &fleetpb.Progress{}}},
		{Id: 6, Msg: &fleetpb.CallEvent_Released{Released: &fleetpb.Released{}}},
		{Id: 7, Ongoing: 2, Msg: &fleetpb.CallEvent_Notification{Notification: &fleetpb.Notification{Method: "n/x\uFFFD", Params: []byte("{}")}}},
		{Id: 8, Seq: 3, Msg: &fleetpb.CallEvent_Notification{Notification: &fleetpb.Notification{Method: "n"}}},
		{Id: 9, Seq: 4, Ongoing: 2, Msg: &fleetpb.CallEvent_Request{
			Request: &fleetpb.ServerRequest{Id: []byte(`"i"`), Method: "e/c", Params: []byte("{}")}}},
		{Id: 10, Msg: &fleetpb.CallEvent_Resumed{Resumed: &fleetpb.Resumed{}}},
		{Id: 11, Seq: 5, Msg: reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Result{Result: []byte("{}")}})},
	}}
}

func aStreamedCall() fleet.CallRequest {
	return fleet.CallRequest{
		Method: "tools/call", Ask: true, Logs: true, Timeout: 1500 * time.Microsecond, Limit: time.Hour,
		Stream: fleet.StreamRequest{ID: "s", Owner: "o", Window: time.Minute, Keep: true},
	}
}

func aStreamedCallPB(id uint64) *fleetpb.Call {
	return &fleetpb.Call{
		Id: id, Method: "tools/call", Stream: "s", Owner: "o", Window: 60_000, Keep: true, Ask: true, Logs: true, Timeout: 2, Limit: 3_600_000,
	}
}

// The messages that the generated code writes are read by hand.
func TestWireReads(t *testing.T) {
	var cmds commands
	if err := cmds.parse(split(t, &fleetpb.CallsRequest{Commands: []*fleetpb.CallCommand{
		{Msg: &fleetpb.CallCommand_Call{Call: &fleetpb.Call{Id: 9, ReplicaId: "r", Method: "m", Params: []byte("1"), RequestId: "q", Traceparent: "p", Notifications: true, NoMeta: true}}},
		{Msg: &fleetpb.CallCommand_Call{Call: &fleetpb.Call{Id: 10, Method: "tools/call"}}},
		{Msg: &fleetpb.CallCommand_Cancel{Cancel: &fleetpb.Cancel{Id: 11, Timeout: true}}},
		{Msg: &fleetpb.CallCommand_Call{Call: aStreamedCallPB(12)}},
	}})); err != nil {
		t.Fatal(err)
	}
	want := commands{
		{id: 9, req: fleet.CallRequest{Replica: "r", Method: "m", Params: []byte("1"), Trace: fleet.Trace{RequestID: "q", Traceparent: "p"}, Notifications: true, NoMeta: true}},
		{id: 10, req: fleet.CallRequest{Method: "tools/call"}},
		{id: 11, cancel: true, timeout: true},
		{id: 12, req: aStreamedCall()},
	}
	want[3].req.Timeout = 2 * time.Millisecond // rounded up
	if !reflect.DeepEqual(cmds, want) {
		t.Errorf("commands are %+v, want %+v", cmds, want)
	}

	var es events
	if err := es.parse(split(t, someEvents())); err != nil {
		t.Fatal(err)
	}
	if len(es) != 11 {
		t.Fatalf("%d events, want 11", len(es))
	}
	for i, check := range []func(e event) bool{
		func(e event) bool { return e.kind == fleet.CallReply && string(e.result) == "{}" && e.ongoing == 300 },
		func(e event) bool {
			return e.kind == fleet.CallReply && string(e.errObj) == `{"code":1}` && e.ongoing == -1
		},
		func(e event) bool { return e.holding && errors.Is(fromFailure(e.failure), fleet.ErrBadReply) },
		func(e event) bool { return e.large.Token == "t" && e.large.Size == 9 && e.large.Error },
		func(e event) bool { return e.kind == fleet.CallProgress && e.ongoing == 1 },
		func(e event) bool { return e.kind == fleet.CallReleased },
		func(e event) bool {
			return e.kind == fleet.CallNotification && e.note.method == "n/x\uFFFD" && string(e.note.params) == "{}"
		},
		func(e event) bool { return e.kind == fleet.CallNotification && e.seq == 3 },
		func(e event) bool {
			return e.kind == fleet.CallAsk && e.seq == 4 && string(e.note.id) == `"i"` && e.note.method == "e/c" && string(e.note.params) == "{}"
		},
		func(e event) bool { return e.kind == fleet.CallResumed },
		func(e event) bool { return e.kind == fleet.CallReply && e.seq == 5 && string(e.result) == "{}" },
	} {
		if e := es[i]; e.id != uint64(i+1) || !check(e) {
			t.Errorf("event %d is %+v", i+1, e)
		}
	}
}

func TestWireChunk(t *testing.T) {
	want := bytes.Repeat([]byte("chunk "), 100)
	whole := joined(encodeChunk(want)...)
	unknownFirst := append([]byte{0x7a, 1, 'x'}, whole...) // field 15
	for name, b := range map[string][]byte{"plain": whole, "with an unknown field": unknownFirst} {
		var c chunk
		if err := c.parse(mem.BufferSlice{mem.SliceBuffer(b[:10]), mem.SliceBuffer(b[10:])}); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c.r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read %q, %v", name, got, err)
		}
	}
}

// Broken messages are errors, never panics, and unknown fields are skipped.
func TestWireBroken(t *testing.T) {
	whole := joined(encodeCall(5, &fleet.CallRequest{Replica: "r", Params: []byte("{}")})...)
	for n := 1; n < len(whole); n++ {
		var cmds commands
		if err := cmds.parse(mem.BufferSlice{mem.SliceBuffer(whole[:n])}); err == nil {
			t.Errorf("the first %d of %d bytes were taken as %+v", n, len(whole), cmds)
		}
	}
	var es events
	if err := es.parse(mem.BufferSlice{mem.SliceBuffer("\x0a\x04\x12\x02\x1a\x7f")}); err == nil {
		t.Error("an event with a broken failure was taken")
	}
	var cmds commands
	if err := cmds.parse(mem.BufferSlice{mem.SliceBuffer(append([]byte{0x7d, 1, 2, 3, 4, 0x78, 5}, whole...))}); err != nil || len(cmds) != 1 || cmds[0].id != 5 {
		t.Errorf("unknown fields: %+v, %v", cmds, err)
	}
}

// Conversions lose nothing: each value has every field set, whatever fields
// come to be.
func TestConversions(t *testing.T) {
	var o fleet.Order
	var a fleet.Assignment
	fill(t, reflect.ValueOf(&o).Elem())
	fill(t, reflect.ValueOf(&a).Elem())
	gotO, gotA := assignmentFromPB(wired(t, assignmentToPB(o, a)))
	same(t, gotO, o)
	same(t, gotA, a)

	var r fleet.Report
	fill(t, reflect.ValueOf(&r).Elem())
	node := fleet.NodeID("the node")
	for i := range r.Replicas {
		r.Replicas[i].Node = node  // said once for all
		r.Replicas[i].Lost = false // what controllers say of a node that says nothing
	}
	same(t, reportFromPB(wired(t, reportToPB(r)), node), r)

	var l []fleet.LogLine
	fill(t, reflect.ValueOf(&l).Elem())
	same(t, linesFromPB(wired(t, linesToPB(l))), l)

	same(t, reportFromPB(wired(t, reportToPB(fleet.Report{Version: 1})), ""), fleet.Report{Version: 1})
	zero := fleet.Report{Replicas: []fleet.Replica{{ID: "r"}}}
	same(t, reportFromPB(wired(t, reportToPB(zero)), ""), zero)
}

// A node's runtimes reach a controller of the version before, and its runtime
// reaches us.
func TestRuntimesOfTheVersionBefore(t *testing.T) {
	for _, tt := range []struct {
		name    string
		offered []string
		old     string // what the version before reads and writes
	}{
		{"images only", []string{"podman"}, "podman"},
		{"commands only", []string{"process"}, "process"},
		{"nothing known", nil, ""},
	} {
		p := wired(t, nodeToPB(&fleet.NodeInfo{Node: "n", Runtimes: tt.offered}))
		if p.Runtime != tt.old {
			t.Errorf("%s: a controller of the version before reads %q, want %q", tt.name, p.Runtime, tt.old)
		}
		if got := nodeFromPB(&fleetpb.Node{Node: "n", Runtime: tt.old}); !slices.Equal(got.Runtimes, tt.offered) {
			t.Errorf("%s: a worker of the version before is taken for %v, want %v", tt.name, got.Runtimes, tt.offered)
		}
	}
	// The version before placed images where the text was not "process", and
	// commands where it was not "podman".
	both := wired(t, nodeToPB(&fleet.NodeInfo{Node: "n", Runtimes: []string{"podman", "process"}}))
	if both.Runtime != "podman,process" {
		t.Errorf("of a node with both, a controller of the version before reads %q", both.Runtime)
	}
}

func TestPhases(t *testing.T) {
	for p := fleet.PhaseUnknown; p <= fleet.PhaseFailed; p++ {
		want := "PHASE_" + p.String()
		if p == fleet.PhaseUnknown {
			want = "PHASE_UNSPECIFIED"
		}
		if got := fleetpb.Phase(p).String(); got != want {
			t.Errorf("phase %v is %s on the wire, want %s", p, got, want)
		}
	}
}

func wired[M proto.Message](t *testing.T, m M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	out := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("came back as\n%+v, want\n%+v", got, want)
	}
}

// fill sets every field to something that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1700000000, 123456789).UTC()))
		return
	case v.Type() == reflect.TypeFor[fleet.Phase]():
		v.Set(reflect.ValueOf(fleet.PhaseDraining))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(t, value)
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(42)
	case reflect.Uint8, reflect.Uint64:
		v.SetUint(43)
	case reflect.Float64:
		v.SetFloat(1.5)
	default:
		t.Fatalf("cannot fill a %v", v.Type())
	}
}
