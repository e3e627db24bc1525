package rpc

import (
	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetpb"
)

func messagesToPB(ms []fleet.Message) *fleetpb.ReadStreamResponse {
	p := &fleetpb.ReadStreamResponse{}
	for i := range ms {
		p.Messages = append(p.Messages, messageToPB(&ms[i]))
	}
	return p
}

func messageToPB(m *fleet.Message) *fleetpb.StreamMessage {
	p := &fleetpb.StreamMessage{Seq: m.Seq}
	switch {
	case m.Kind == fleet.MessageNotification:
		p.Msg = &fleetpb.StreamMessage_Notification{Notification: &fleetpb.Notification{Method: text(m.Method), Params: m.Params}}
	case m.Kind == fleet.MessageRequest:
		p.Msg = &fleetpb.StreamMessage_Request{
			Request: &fleetpb.ServerRequest{Id: m.ID, Method: text(m.Method), Params: m.Params},
		}
	case m.Err != nil:
		p.Msg = reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Failure{Failure: toFailure(m.Err)}})
	case m.Error != nil:
		p.Msg = reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Error{Error: m.Error}})
	default:
		p.Msg = reply(&fleetpb.Reply{Outcome: &fleetpb.Reply_Result{Result: m.Result}})
	}
	return p
}

func reply(r *fleetpb.Reply) *fleetpb.StreamMessage_Reply {
	return &fleetpb.StreamMessage_Reply{Reply: r}
}

func messagesFromPB(p *fleetpb.ReadStreamResponse) []fleet.Message {
	var ms []fleet.Message
	for _, m := range p.GetMessages() {
		if m.GetMsg() != nil { // else of a kind that we do not know
			ms = append(ms, messageFromPB(m))
		}
	}
	return ms
}

func messageFromPB(p *fleetpb.StreamMessage) fleet.Message {
	m := fleet.Message{Seq: p.GetSeq()}
	switch msg := p.GetMsg().(type) {
	case *fleetpb.StreamMessage_Notification:
		m.Kind, m.Method, m.Params = fleet.MessageNotification, msg.Notification.GetMethod(), orNil(msg.Notification.GetParams())
	case *fleetpb.StreamMessage_Request:
		r := msg.Request
		m.Kind, m.ID, m.Method, m.Params = fleet.MessageRequest, r.GetId(), r.GetMethod(), orNil(r.GetParams())
	case *fleetpb.StreamMessage_Reply:
		m.Kind = fleet.MessageReply
		switch out := msg.Reply.GetOutcome().(type) {
		case *fleetpb.Reply_Failure:
			m.Err = fromFailure(out.Failure)
		case *fleetpb.Reply_Error:
			m.Error = out.Error
		default:
			m.Result = msg.Reply.GetResult()
		}
	}
	return m
}

func orNil(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func interestsToPB(is fleet.Interests) *fleetpb.ListenRequest {
	p := &fleetpb.ListenRequest{Number: is.Number}
	for _, i := range is.Servers {
		uris := make([]string, len(i.URIs))
		for n, uri := range i.URIs {
			uris[n] = text(uri)
		}
		p.Interests = append(p.Interests, &fleetpb.Interest{Server: string(i.Server), Uris: uris})
	}
	return p
}

func interestsFromPB(p *fleetpb.ListenRequest) fleet.Interests {
	is := fleet.Interests{Number: p.GetNumber(), Servers: make([]fleet.Interest, 0, len(p.GetInterests()))}
	for _, i := range p.GetInterests() {
		is.Servers = append(is.Servers, fleet.Interest{Server: fleet.ServerName(i.GetServer()), URIs: i.GetUris()})
	}
	return is
}

func hearingToPB(h fleet.Hearing) *fleetpb.ListenResponse {
	p := &fleetpb.ListenResponse{InEffect: h.InEffect}
	for _, server := range h.Running {
		p.Running = append(p.Running, string(server))
	}
	for _, n := range h.News {
		p.News = append(p.News, &fleetpb.News{
			Server: string(n.Server), ReplicaId: string(n.Replica), Method: text(n.Method), Params: n.Params, Task: text(n.Task),
		})
	}
	return p
}

func hearingFromPB(p *fleetpb.ListenResponse) fleet.Hearing {
	h := fleet.Hearing{InEffect: p.GetInEffect()}
	for _, server := range p.GetRunning() {
		h.Running = append(h.Running, fleet.ServerName(server))
	}
	for _, n := range p.GetNews() {
		h.News = append(h.News, fleet.News{
			Server: fleet.ServerName(n.GetServer()), Replica: fleet.ReplicaID(n.GetReplicaId()), Method: n.GetMethod(),
			Params: orNil(n.GetParams()), Task: n.GetTask(),
		})
	}
	return h
}

func streamStatsToPB(s fleet.StreamStats) *fleetpb.StreamStats {
	if s == (fleet.StreamStats{}) {
		return nil
	}
	return &fleetpb.StreamStats{
		Kept: int64(s.Kept), Bytes: s.Bytes, Evicted: s.Evicted, Resumed: s.Resumed, Unattributed: s.Unattributed,
	}
}

func streamStatsFromPB(p *fleetpb.StreamStats) fleet.StreamStats {
	return fleet.StreamStats{
		Kept: int(p.GetKept()), Bytes: p.GetBytes(), Evicted: p.GetEvicted(), Resumed: p.GetResumed(), Unattributed: p.GetUnattributed(),
	}
}
