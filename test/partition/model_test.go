package partition

import (
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// verdict is what a client knows about a write after its answer.
type verdict int

const (
	done    verdict = iota // it was acknowledged
	refused                // nothing was written, nor will be later
	unmet                  // nothing was written, since If-Match did not hold
	unknown                // it may have been done, or may be done later
)

func (v verdict) String() string { return [...]string{"done", "refused", "unmet", "unknown"}[v] }

// The kinds of operations on a register.
const (
	opRead = "read"
	opPut  = "put"
	opSwap = "swap" // a put with If-Match
)

// input is an operation on one server, which is a register with a number. No number
// is put twice, so a number stands for the ETag under which it was written.
type input struct {
	key   string
	op    string
	value int // of put and swap
	match int // of swap: the number whose ETag If-Match was
}

// output is the client's answer.
type output struct {
	verdict verdict
	value   int // of read
}

// register is the model: one number for each key, 0 at first.
//
// A refused operation did not happen, so it is not part of a history. One with an
// unknown outcome may have happened at any time after its start. It returns at the
// end of time, after all reads, where it makes no difference whether it happened.
func register() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			var keys []string
			parts := map[string][]porcupine.Operation{}
			for _, o := range history {
				key := o.Input.(input).key
				if parts[key] == nil {
					keys = append(keys, key)
				}
				parts[key] = append(parts[key], o)
			}
			var out [][]porcupine.Operation
			for _, key := range keys {
				out = append(out, parts[key])
			}
			return out
		},
		Init: func() any { return 0 },
		Step: func(state, in, out any) (bool, any) {
			now, i, o := state.(int), in.(input), out.(output)
			switch {
			case i.op == opRead:
				return o.value == now, now
			case i.op == opPut:
				return true, i.value
			case o.verdict == unmet:
				return i.match != now, now
			case i.match == now:
				return true, i.value
			default:
				return o.verdict == unknown, now
			}
		},
		DescribeOperation: func(in, out any) string {
			i, o := in.(input), out.(output)
			switch i.op {
			case opRead:
				return fmt.Sprintf("%s = %d", i.key, o.value)
			case opSwap:
				return fmt.Sprintf("%s: %d -> %d %s", i.key, i.match, i.value, o.verdict)
			}
			return fmt.Sprintf("%s := %d %s", i.key, i.value, o.verdict)
		},
		DescribeState: func(state any) string { return fmt.Sprint(state) },
	}
}

// never is when operations of unknown outcome return.
const never = int64(time.Hour)

// The model finds violations.
func TestModel(t *testing.T) {
	put := func(value int, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: input{key: "k", op: opPut, value: value}, Output: output{}, Call: call, Return: ret}
	}
	lost := func(value int, call int64) porcupine.Operation {
		return porcupine.Operation{Input: input{key: "k", op: opPut, value: value}, Output: output{verdict: unknown}, Call: call, Return: never}
	}
	read := func(value int, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: input{key: "k", op: opRead}, Output: output{value: value}, Call: call, Return: ret}
	}
	swap := func(match, value int, v verdict, call, ret int64) porcupine.Operation {
		return porcupine.Operation{Input: input{key: "k", op: opSwap, match: match, value: value}, Output: output{verdict: v}, Call: call, Return: ret}
	}
	for name, test := range map[string]struct {
		want    bool
		history []porcupine.Operation
	}{
		"read what was written":               {true, []porcupine.Operation{put(1, 0, 1), read(1, 2, 3), put(2, 4, 5), read(2, 6, 7)}},
		"stale read":                          {false, []porcupine.Operation{put(1, 0, 1), put(2, 2, 3), read(1, 4, 5)}},
		"read that overlaps the write":        {true, []porcupine.Operation{put(1, 0, 1), put(2, 2, 9), read(1, 4, 5), read(2, 6, 7)}},
		"back again within the overlap":       {false, []porcupine.Operation{put(1, 0, 1), put(2, 2, 9), read(2, 4, 5), read(1, 6, 7)}},
		"acknowledged write lost":             {false, []porcupine.Operation{put(1, 0, 1), read(0, 2, 3)}},
		"read of what nobody wrote":           {false, []porcupine.Operation{put(1, 0, 1), read(5, 2, 3)}},
		"unknown that never happened":         {true, []porcupine.Operation{put(1, 0, 1), lost(2, 2), read(1, 20, 21)}},
		"unknown that happened late":          {true, []porcupine.Operation{put(1, 0, 1), lost(2, 2), read(1, 20, 21), read(2, 22, 23)}},
		"unknown that happened twice":         {false, []porcupine.Operation{lost(2, 2), read(2, 3, 4), put(3, 5, 6), read(3, 7, 8), read(2, 9, 10)}},
		"unknown that happened before it was": {false, []porcupine.Operation{read(2, 0, 1), lost(2, 2)}},
		"swap":                                {true, []porcupine.Operation{put(1, 0, 1), swap(1, 2, done, 2, 3), read(2, 4, 5)}},
		"swap of what is not there":           {false, []porcupine.Operation{put(1, 0, 1), put(2, 2, 3), swap(1, 3, done, 4, 5)}},
		"two swaps of the same":               {false, []porcupine.Operation{put(1, 0, 1), swap(1, 2, done, 2, 9), swap(1, 3, done, 2, 9)}},
		"swap rightly not done":               {true, []porcupine.Operation{put(1, 0, 1), put(2, 2, 3), swap(1, 3, unmet, 4, 5), read(2, 6, 7)}},
		"swap wrongly not done":               {false, []porcupine.Operation{put(1, 0, 1), swap(1, 3, unmet, 4, 5)}},
		"unknown swap that happened":          {true, []porcupine.Operation{put(1, 0, 1), swap(1, 2, unknown, 2, never), read(1, 3, 4), read(2, 5, 6)}},
		"unknown swap that cannot have":       {false, []porcupine.Operation{put(1, 0, 1), put(3, 2, 3), swap(1, 2, unknown, 4, never), read(2, 5, 6)}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := porcupine.CheckOperations(register(), test.history); got != test.want {
				t.Errorf("linearizable: %v, want %v", got, test.want)
			}
		})
	}
	other := put(9, 0, 1)
	other.Input = input{key: "other", op: opPut, value: 9}
	if !porcupine.CheckOperations(register(), []porcupine.Operation{put(1, 0, 1), other, read(1, 2, 3)}) {
		t.Error("a write to one key is seen at another")
	}
}
