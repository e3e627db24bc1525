// Package recent remembers what came a moment ago, for those who ask for it a moment too late.
package recent

import (
	"iter"
	"maps"
	"time"
)

// Span is how long a value is remembered.
const Span = time.Second

// most bounds how many values are remembered. If more come within Span, all are forgotten.
const most = 1000

// Map has the last value of each key, if that came within Span. The zero value is ready. It
// has no lock of its own.
type Map[K comparable, V any] struct{ all map[K]entry[V] }

type entry[V any] struct {
	value V
	at    time.Time
}

// Put remembers a value.
func (m *Map[K, V]) Put(key K, value V) {
	now := time.Now()
	if len(m.all) >= most {
		maps.DeleteFunc(m.all, func(_ K, e entry[V]) bool { return now.Sub(e.at) > Span })
	}
	if m.all == nil || len(m.all) >= most {
		m.all = make(map[K]entry[V])
	}
	m.all[key] = entry[V]{value, now}
}

// All yields what is remembered now.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		now := time.Now()
		for key, e := range m.all {
			if now.Sub(e.at) <= Span && !yield(key, e.value) {
				return
			}
		}
	}
}
