package agent

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func note(size int) fleet.Message {
	return fleet.Message{Kind: fleet.MessageNotification, Params: make([]byte, size)}
}

func seqs(ms []fleet.Message) (out []uint64) {
	for _, m := range ms {
		out = append(out, m.Seq)
	}
	return out
}

func TestMessageLogBounds(t *testing.T) {
	ask := fleet.Message{Kind: fleet.MessageRequest, Method: "elicitation/create", ID: []byte("7")}
	tests := []struct {
		name string
		fill func(*messageLog)
		want []uint64 // the first ones kept
		n    int
	}{
		{"all fit", func(l *messageLog) {
			for range maxMessages {
				l.add(note(1))
			}
		}, []uint64{1, 2, 3}, maxMessages},
		{"too many: the oldest go", func(l *messageLog) {
			for range maxMessages + 2 {
				l.add(note(1))
			}
		}, []uint64{3, 4, 5}, maxMessages},
		{"too many: requests stay", func(l *messageLog) {
			l.add(note(1))
			l.add(ask)
			for range maxMessages {
				l.add(note(1))
			}
		}, []uint64{2, 4, 5}, maxMessages},
		{"too large: the oldest go", func(l *messageLog) {
			for range 5 {
				l.add(note(maxMessagesBytes / 4))
			}
		}, []uint64{3, 4, 5}, 3},
		{"one message is kept whatever its size", func(l *messageLog) {
			l.add(note(1))
			l.add(note(2 * maxMessagesBytes))
		}, []uint64{2}, 1},
		{"a large one makes requests go, too", func(l *messageLog) {
			l.add(ask)
			l.add(fleet.Message{Kind: fleet.MessageReply, Result: make([]byte, 2*maxMessagesBytes)})
		}, []uint64{2}, 1},
		{"a removed one", func(l *messageLog) {
			l.add(note(1))
			l.add(ask)
			l.add(note(1))
			l.removeRequest([]byte("7"))
			l.removeRequest([]byte("7"))
		}, []uint64{1, 3}, 2},
		{"shrunk", func(l *messageLog) {
			l.add(note(1000))
			l.add(ask)
			l.add(note(1000))
			l.add(note(1000))
			l.shrink(1 << 20)
		}, []uint64{2, 4}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var l messageLog
			test.fill(&l)
			got := l.after(0)
			if len(got) != test.n || !slices.Equal(seqs(got)[:len(test.want)], test.want) {
				t.Errorf("kept %d: %v; want %d: %v", len(got), seqs(got), test.n, test.want)
			}
			bytes := 0
			for i := range got {
				bytes += got[i].Size()
			}
			if bytes != l.bytes {
				t.Errorf("counted %d bytes, there are %d", l.bytes, bytes)
			}
		})
	}
}

func TestMessageLogAfter(t *testing.T) {
	var l messageLog
	for range 4 {
		l.add(note(1))
	}
	l.removeAt(1)
	for after, want := range []string{"[1 3 4]", "[3 4]", "[3 4]", "[4]", "[]", "[]"} {
		if got := fmt.Sprint(seqs(l.after(uint64(after)))); got != want {
			t.Errorf("after %d: %s, want %s", after, got, want)
		}
	}
}
