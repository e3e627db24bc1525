package agent

import (
	"bytes"
	"slices"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Bounds of one stream. One message is always kept, whatever its size.
const (
	maxMessages      = 1000
	maxMessagesBytes = 4 << 20
)

// messageLog has the last messages of a stream. Beyond its bounds the oldest notifications
// go first, because requests wait for answers.
type messageLog struct {
	last     uint64 // number of the newest message ever
	messages []fleet.Message
	bytes    int
}

// number gives the next message its number without keeping it.
func (l *messageLog) number() uint64 {
	l.last++
	return l.last
}

// add numbers and keeps a message.
func (l *messageLog) add(m fleet.Message) (seq uint64) {
	m.Seq = l.number()
	l.messages = append(l.messages, m)
	l.bytes += m.Size()
	for len(l.messages) > maxMessages || l.bytes > maxMessagesBytes && len(l.messages) > 1 {
		l.dropOldest()
	}
	return m.Seq
}

// dropOldest drops the oldest notification, or the oldest message if there is none but
// the newest message.
func (l *messageLog) dropOldest() {
	older := l.messages[:len(l.messages)-1]
	l.removeAt(max(0, slices.IndexFunc(older, func(m fleet.Message) bool { return m.Kind == fleet.MessageNotification })))
}

// shrink drops old notifications until so many bytes are gone, or only the newest message
// and requests are left.
func (l *messageLog) shrink(bytes int) {
	for want := l.bytes - bytes; l.bytes > want; {
		older := l.messages[:max(0, len(l.messages)-1)]
		i := slices.IndexFunc(older, func(m fleet.Message) bool { return m.Kind == fleet.MessageNotification })
		if i < 0 {
			return
		}
		l.removeAt(i)
	}
}

// removeRequest drops the request with that id, if it is kept.
func (l *messageLog) removeRequest(id []byte) {
	i := slices.IndexFunc(l.messages, func(m fleet.Message) bool {
		return m.Kind == fleet.MessageRequest && bytes.Equal(m.ID, id)
	})
	if i >= 0 {
		l.removeAt(i)
	}
}

func (l *messageLog) removeAt(i int) {
	l.bytes -= l.messages[i].Size()
	if i == 0 { // the usual case, without a copy
		l.messages[0] = fleet.Message{}
		l.messages = l.messages[1:]
		return
	}
	l.messages = slices.Delete(l.messages, i, i+1)
}

// after returns copies of the messages after this one.
func (l *messageLog) after(seq uint64) []fleet.Message {
	i, found := l.find(seq)
	if found {
		i++
	}
	return slices.Clone(l.messages[i:])
}

func (l *messageLog) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(l.messages, seq, func(m fleet.Message, seq uint64) int {
		switch {
		case m.Seq < seq:
			return -1
		case m.Seq > seq:
			return 1
		}
		return 0
	})
}
