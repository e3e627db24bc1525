package stdio

import "sync/atomic"

// Budget bounds the bytes of large lines in a process, from when they are read until they are
// released. The conversations of a process share one. A nil Budget has no limit. All methods may be
// called at any time.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

func (b *Budget) reserve(n int) bool {
	if b == nil {
		return true
	}
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *Budget) release(n int) {
	if b != nil {
		b.used.Add(-int64(n))
	}
}

// hold is a large line's share of a budget. It is returned once, however often release is called,
// because a Reply is a value that may be copied.
type hold struct {
	budget *Budget
	bytes  int
	given  atomic.Bool
}

func (h *hold) release() {
	if h != nil && h.given.CompareAndSwap(false, true) {
		h.budget.release(h.bytes)
	}
}
