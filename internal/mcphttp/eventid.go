package mcphttp

import (
	"encoding/base64"
	"strings"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// maxRequestID bounds the ids of requests that event ids carry.
const maxRequestID = 256

// eventID is the id of an event of a call's stream. It carries the id of the request, so
// that the request has an answer even if the stream is lost, and what is needed to
// translate the rest of the stream.
type eventID struct {
	fleet.EventID
	request []byte // raw JSON; nil: too long
	from    origin
}

// origin is where the messages of a stream come from. The zero origin needs no
// translation.
type origin struct {
	server fleet.ServerName
	method string // of the request
	// replica is where a task is that the request asks for or is about, "" for others.
	replica fleet.ReplicaID
}

func (id eventID) String() string {
	text := string(id.request)
	if len(text) > maxRequestID {
		text = ""
	}
	if id.from != (origin{}) {
		text = string(id.from.server) + "\x00" + id.from.method + "\x00" + string(id.from.replica) + "\x00" + text
	}
	return id.EventID.String() + "." + base64.RawURLEncoding.EncodeToString([]byte(text))
}

// parseEventID parses what String returns.
func parseEventID(s string) (id eventID, err error) {
	if len(s) > 4*maxRequestID {
		return id, fleet.ErrBadID
	}
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return id, fleet.ErrBadID
	}
	if id.EventID, err = fleet.ParseEventID(s[:i]); err != nil {
		return id, err
	}
	text, err := base64.RawURLEncoding.DecodeString(s[i+1:])
	if err != nil {
		return id, fleet.ErrBadID
	}
	id.request = text
	if parts := strings.SplitN(string(text), "\x00", 4); len(parts) == 4 {
		id.from, id.request = origin{fleet.ServerName(parts[0]), parts[1], fleet.ReplicaID(parts[2])}, []byte(parts[3])
	}
	if t := mcp.TypeOf(id.request); len(id.request) > 0 && (mcp.Valid(id.request) != nil || t != "string" && t != "number") {
		return id, fleet.ErrBadID
	}
	return id, nil
}

// isOf reports whether the event may be one that the session's client was sent. Long ids of
// requests are not known here: then the worker knows whose stream it is.
func (id eventID) isOf(s *session) bool {
	if id.Stream.IsSession() {
		return id.Stream.IsOf(s.id())
	}
	return len(id.request) == 0 || id.Stream == s.streamOf(id.request)
}

// originOf returns the origin of a stream, for a client that comes back to it.
func originOf(scope fleet.Scope, dest fleet.Destination, m *message) origin {
	if !dest.Modern && dest.Result == nil && (scope.Server() != "" || !dest.PerSession) {
		return origin{}
	}
	return origin{server: dest.Server, method: m.method}
}

// translation makes what a server says what a legacy client of an endpoint understands.
type translation struct {
	scope  fleet.Scope
	dest   fleet.Destination
	method string
	tasks  *taskNames
}

// translationOf returns the translation of a stream. If its server is not known any more,
// nothing is translated.
func (f *Front) translationOf(s *session, from origin) translation {
	t := translation{scope: s.scope, method: from.method}
	if view, err := f.cfg.Offers.View(s.scope); err == nil && from.server != "" {
		t.dest, _ = view.At(from.server)
	}
	if merged := s.scope.Server() == "" && ownsTasks(t.dest); merged || from.replica != "" {
		t.tasks = &taskNames{front: f, method: from.method, at: taskRoute{server: from.server, replica: from.replica, caller: fleet.Anonymous}}
	}
	return t
}

// message translates a message that is not a reply.
func (t translation) message(m *fleet.Message) *fleet.Message {
	if t.tasks != nil {
		named := *m
		named.Params = t.tasks.params(m.Kind, m.Method, m.Params)
		m = &named
	}
	if m.Kind != fleet.MessageRequest || !t.dest.PerSession || t.dest.Modern {
		return m
	}
	asked := *m
	asked.ID = askID(t.scope, t.dest.Server, m.ID)
	return &asked
}

// reply translates a reply.
func (t translation) reply(m *fleet.Message) *fleet.Message {
	reply := *m
	if reply.Error != nil && t.dest.Modern {
		reply.Error = mcp.ErrorToLegacy(t.method, reply.Error)
	}
	if reply.Result != nil && t.dest.Result != nil {
		reply.Result = t.dest.Result(resultOf(t.method), reply.Result)
	}
	if reply.Result != nil {
		reply.Result = t.tasks.result(reply.Result)
	}
	return &reply
}
