package bridge

import (
	"bytes"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	maxClosings = 5               // of a subscription that the server ends at once
	shortLife   = 5 * time.Second // of a subscription that ends at once
)

// subscription is the state of a request subscriptions/listen, which the bridge
// sends again when its stream has ended.
type subscription struct {
	accepted []byte // the filter that the server acknowledged first; nil before
	began    time.Time
	closings int
	pauses   int
}

// pause returns how long to wait before the request is sent again.
func (s *subscription) pause() time.Duration {
	s.pauses++
	return min(firstPause<<min(s.pauses, 10), longPause)
}

// subscribed handles a message of a subscription. It reports whether to pass the
// message on to the client.
func (c *call) subscribed(raw []byte, env *mcp.Envelope) (pass bool, err error) {
	s := &c.sub
	switch {
	case env.Kind == mcp.KindNotification && string(env.Method) == mcp.MethodAcknowledged:
		accepted := bytes.Clone(within(env.Params, "notifications"))
		again := s.accepted != nil
		same := bytes.Equal(accepted, s.accepted)
		s.accepted, s.began, s.pauses = accepted, time.Now(), 0
		if !again {
			return true, nil
		}
		c.b.log.Info("a subscription goes on")
		if !same {
			c.tell(raw)
		}
		c.missed(accepted)
		return false, nil
	case env.Kind == mcp.KindResponse: // the server ends it, such as a controller that stops
		if s.accepted == nil {
			return true, nil
		}
		if time.Since(s.began) > shortLife {
			s.closings = 0
		}
		if s.closings++; s.closings > maxClosings {
			return true, nil
		}
		if err := sleep(c.ctx, s.pause()); err != nil {
			return false, err
		}
		return false, errAgain
	}
	return true, nil
}

// missed tells the client of every change that it may have missed while the
// subscription was down.
func (c *call) missed(accepted []byte) {
	filter, err := mcp.ParseFilter(accepted)
	if err != nil {
		return
	}
	for method, wanted := range map[string]bool{
		mcp.MethodToolsListChanged: filter.ToolsListChanged, mcp.MethodPromptsListChanged: filter.PromptsListChanged,
		mcp.MethodResourcesListChanged: filter.ResourcesListChanged,
	} {
		if wanted {
			c.changed(method, nil)
		}
	}
	for _, uri := range filter.Resources {
		c.changed(mcp.MethodResourcesUpdated, mcp.AppendString(nil, uri))
	}
}

func (c *call) changed(method string, uri []byte) {
	out := mcp.AppendString([]byte(`{"jsonrpc":"2.0","method":`), method)
	out = append(out, `,"params":{"_meta":{"`+mcp.MetaSubscriptionID+`":`...)
	out = append(append(out, c.m.env.ID...), '}')
	if uri != nil {
		out = append(append(out, `,"uri":`...), uri...)
	}
	c.tell(append(out, `}}`...))
}
