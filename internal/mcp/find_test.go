package mcp

import (
	"bytes"
	"strings"
	"testing"
)

func TestFinder(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	cases := []struct {
		name, line    string
		id            string
		method, reply bool
	}{
		{"id first", `{"jsonrpc":"2.0","id":12,"result":"` + long + `"}`, "12", false, true},
		{"id last", `{"jsonrpc":"2.0","result":{"id":3,"a":"\"id\":4,` + long + `"},"id":12}`, "12", false, true},
		{"string id", `{"error":{}, "id" : "a,}\"b" }`, `"a,}\"b"`, false, true},
		{"escaped key", `{"\u0069d":5,"\u0072esult":1}`, "5", false, true},
		{"last wins", `{"id":1,"result":1,"id":2}`, "2", false, true},
		{"request", `{"id":1,"method":"` + long + `"}`, "1", true, false},
		{"null", `{"id":null,"error":{}}`, "null", false, true},
		{"object id", `{"id":{"id":3},"result":1}`, "", false, true},
		{"object id behind a good one", `{"id":1,"result":1,"id":{}}`, "", false, true},
		{"value that looks like a key", `{"a":"id","b":7,"result":1}`, "", false, true},
		{"invalid UTF-8 in the result", "{\"result\":\"\xff\xfe\",\"id\":8}", "8", false, true},
		{"control character in the result", "{\"result\":\"a\tb\",\"id\":8}", "8", false, true},
		{"missing value inside", `{"id":8,"result":{"a":}}`, "8", false, true},
		{"cut", `{"id":8,"result":{"a":"` + long, "8", false, true},
		{"cut in the id", `{"result":1,"id":8`, "", false, true},
		{"text in front", `log: {"id":8,"result":1}`, "", false, false},
		{"two keys", `{"a" "b","id":8}`, "", false, false},
		{"missing value outside", `{"a":,"id":8}`, "", false, false},
		{"second object", `{"a":1}{"id":8}`, "", false, false},
		{"array", `[{"id":8}]`, "", false, false},
		{"long id", `{"id":"` + long + `","result":1}`, "", false, true},
		{"long key", `{"` + long + `":1,"id":8,"result":1}`, "8", false, true},
		{"no number", `{"id":8x,"result":1}`, "", false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 7, 4096, len(c.line)} {
				var f Finder
				for rest := []byte(c.line); len(rest) > 0; {
					n := min(size, len(rest))
					piece := bytes.Clone(rest[:n])
					f.Feed(piece)
					clear(piece) // the Finder must not keep it
					rest = rest[n:]
				}
				if string(f.ID()) != c.id || f.Method() != c.method || f.Reply() != c.reply {
					t.Errorf("in steps of %d: id %q, method %v, reply %v", size, f.ID(), f.Method(), f.Reply())
				}
				if cap(f.capture) > 4*maxCapture || cap(f.id) > 4*maxCapture {
					t.Errorf("the Finder holds %d and %d bytes", cap(f.capture), cap(f.id))
				}
			}
		})
	}
}

func BenchmarkFinder(b *testing.B) {
	line := []byte(`{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"` + strings.Repeat("The quick brown fox. ", 50_000) + `"}]},"id":12}`)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		var f Finder
		f.Feed(line)
		if string(f.ID()) != "12" {
			b.Fatal("no id")
		}
	}
}
