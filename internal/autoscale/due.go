package autoscale

import (
	"container/heap"
	"time"
)

// dueList has the servers that must be looked at without any news, by time.
type dueList struct{ heap dueHeap }

// dueAt is the place of a server in a dueList.
type dueAt struct {
	at    time.Time // zero: it is not in the list
	index int
}

// set says when a server is due: zero for never.
func (l *dueList) set(sv *server, at time.Time) {
	switch listed := !sv.due.at.IsZero(); {
	case at.IsZero():
		l.remove(sv)
	case listed:
		sv.due.at = at
		heap.Fix(&l.heap, sv.due.index)
	default:
		sv.due.at = at
		heap.Push(&l.heap, sv)
	}
}

// remove removes a server if it is in the list.
func (l *dueList) remove(sv *server) {
	if !sv.due.at.IsZero() {
		heap.Remove(&l.heap, sv.due.index)
		sv.due.at = time.Time{}
	}
}

// next returns when the first server is due, zero for never.
func (l *dueList) next() time.Time {
	if len(l.heap) == 0 {
		return time.Time{}
	}
	return l.heap[0].due.at
}

// pop removes and returns a server that is due. It returns nil if no server is.
func (l *dueList) pop(now time.Time) *server {
	if len(l.heap) == 0 || l.heap[0].due.at.After(now) {
		return nil
	}
	sv := l.heap[0]
	l.remove(sv)
	return sv
}

// dueHeap implements heap.Interface.
type dueHeap []*server

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.at.Before(h[j].due.at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due.index, h[j].due.index = i, j
}

func (h *dueHeap) Push(x any) {
	sv := x.(*server)
	sv.due.index = len(*h)
	*h = append(*h, sv)
}

func (h *dueHeap) Pop() any {
	old := *h
	sv := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return sv
}
