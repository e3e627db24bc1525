package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

var scanSeeds = []string{
	`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hi"}]}}`,
	`{"jsonrpc":"2.0","id":"a","method":"ping"}`,
	`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":3}}`,
	`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}`,
	`{"\u0069d":7,"jsonrpc":"2.0","result":{}}`,
	`{"jsonrpc":"2.0","id":1,"method":"x","result":{}}`, `{"jsonrpc":"2.0","id":1,"method":"x","params":{},"result":null,"error":null}`,
	`{"jsonrpc":"2.0","id":1,"method":null,"params":null,"result":{},"error":null}`, `{"jsonrpc":"2.0","id":1}`,
	`[1,-0.5e+3,"ü€😀",true,false,null,{},[]]`, `{"a":1,}`, `[1,]`, `[,1]`, `{"a" 1}`, `01`, `-`, `1.`, `1e`, `.5`, `+1`,
	`"\u12g4"`, `"\x"`, `"` + "\xff" + `"`, `"` + "\xed\xa0\x80" + `"`, "\"\x01\"", "\"tab\t\"", `"\ud800"`, "\ufeff{}", `nul`, `truefalse`,
	` { } `, "\t\r\n[ ]", ``, ` `, `{}{}`, `{"a":{"b":[{"c":[[]]}]}}`, `"unfinished`, `"\`, `"\u00`, "\v1",
}

func valid(raw []byte) bool { return json.Valid(raw) && utf8.Valid(raw) }

func FuzzScan(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add([]byte(s))
	}
	f.Add([]byte(strings.Repeat("[", 65) + strings.Repeat("]", 65)))
	f.Add([]byte(strings.Repeat(`[{"a":`, 70) + "1" + strings.Repeat("}]", 70)))
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		env, err := Scan(line)
		var syntax *SyntaxError
		bad := errors.As(err, &syntax)
		if bad == valid(line) {
			t.Fatalf("Scan(%q) = %v, json.Valid %v, utf8.Valid %v", line, err, json.Valid(line), utf8.Valid(line))
		}
		if bad && (syntax.Offset < 0 || syntax.Offset > len(line)) {
			t.Fatalf("Scan(%q): offset %d outside", line, syntax.Offset)
		}
		if validErr := Valid(line); (validErr == nil) == bad {
			t.Fatalf("Valid(%q) = %v, Scan says %v", line, validErr, err)
		}
		if one := OneLine(line); bytes.ContainsAny(one, "\r\n") || len(one) != len(line) || !bad && !sameJSON(one, line) {
			t.Fatalf("OneLine(%q) = %q", line, one)
		}
		if !bytes.Equal(line, before) {
			t.Fatalf("input changed: %q, was %q", line, before)
		}
		var want map[string]json.RawMessage
		if bad || json.Unmarshal(line, &want) != nil || want == nil {
			return
		}
		if err == nil {
			compareSpans(t, line, env, want)
		}
		compareFinder(t, line, want)
	})
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

func compareSpans(t *testing.T, line []byte, env Envelope, want map[string]json.RawMessage) {
	t.Helper()
	var method string
	if raw, ok := want["method"]; ok {
		_ = json.Unmarshal(raw, &method)
	}
	if env.Kind == KindResponse || env.Kind == KindErrorResponse {
		method = "" // one that it repeats is left out
	}
	if string(env.Method) != method {
		t.Fatalf("Scan(%q): method %q, want %q", line, env.Method, method)
	}
	for name, got := range map[string][]byte{"id": env.ID, "params": env.Params, "result": env.Result, "error": env.Error} {
		if got != nil && !bytes.Equal(got, want[name]) {
			t.Fatalf("Scan(%q): %s %q, want %q", line, name, got, want[name])
		}
		if got == nil && want[name] != nil && !IsNull(want[name]) && env.Method == nil && name != "params" {
			t.Fatalf("Scan(%q): no %s, want %q", line, name, want[name])
		}
	}
}

// compareFinder checks that however a valid line is cut, the Finder sees what a decoder sees.
func compareFinder(t *testing.T, line []byte, want map[string]json.RawMessage) {
	t.Helper()
	for _, size := range []int{1, 3, len(line)} {
		var f Finder
		for rest := line; len(rest) > 0; {
			n := min(size, len(rest))
			f.Feed(rest[:n])
			rest = rest[n:]
		}
		id := want["id"]
		if id != nil && (TypeOf(id) == "object" || TypeOf(id) == "array" || len(id) > maxCapture) {
			id = nil
		}
		if !bytes.Equal(f.ID(), id) {
			t.Fatalf("Finder in steps of %d over %q: id %q, want %q", size, line, f.ID(), id)
		}
		if _, ok := want["method"]; ok != f.Method() {
			t.Fatalf("Finder over %q: method %v, want %v", line, f.Method(), ok)
		}
	}
}

func TestScan(t *testing.T) {
	cases := []struct {
		name, line string
		want       Envelope
		bad        bool
	}{
		{"request", `{"jsonrpc":"2.0","id":"x","method":"ping","params":{"a":1}}`,
			Envelope{Kind: KindRequest, ID: []byte(`"x"`), Method: []byte("ping"), Params: []byte(`{"a":1}`)}, false},
		{"notification", `{"jsonrpc":"2.0","method":"a\/b"}`, Envelope{Kind: KindNotification, Method: []byte("a/b")}, false},
		{"response", ` {"jsonrpc":"2.0", "id" : 12 , "result" : { } } `, Envelope{Kind: KindResponse, ID: []byte("12"), Result: []byte("{ }")}, false},
		{"error", `{"jsonrpc":"2.0","id":12,"error":{"code":1}}`, Envelope{Kind: KindErrorResponse, ID: []byte("12"), Error: []byte(`{"code":1}`)}, false},
		{"error without id", `{"jsonrpc":"2.0","id":null,"error":{}}`, Envelope{Kind: KindErrorResponse, ID: []byte("null"), Error: []byte(`{}`)}, false},
		{"null error beside result", `{"jsonrpc":"2.0","id":1,"result":2,"error":null}`, Envelope{Kind: KindResponse, ID: []byte("1"), Result: []byte("2")}, false},
		{"null result beside error", `{"jsonrpc":"2.0","id":1,"result":null,"error":{}}`, Envelope{Kind: KindErrorResponse, ID: []byte("1"), Error: []byte("{}")}, false},
		{"null result", `{"jsonrpc":"2.0","id":1,"result":null}`, Envelope{Kind: KindResponse, ID: []byte("1"), Result: []byte("null")}, false},
		{"last id wins", `{"id":1,"jsonrpc":"2.0","id":2,"result":{}}`, Envelope{Kind: KindResponse, ID: []byte("2"), Result: []byte("{}")}, false},
		{"escaped keys", `{"\u0069d":5,"j\u0073onrpc":"2\u002e0","resul\u0074":[]}`, Envelope{Kind: KindResponse, ID: []byte("5"), Result: []byte("[]")}, false},
		{"inner id is not ours", `{"jsonrpc":"2.0","result":{"id":9},"id":4}`, Envelope{Kind: KindResponse, ID: []byte("4"), Result: []byte(`{"id":9}`)}, false},
		{"batch", ` [{"jsonrpc":"2.0"}]`, Envelope{Kind: KindBatch}, false},
		{"both", `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, Envelope{ID: []byte("1"), Result: []byte("{}"), Error: []byte("{}")}, true},
		{"no version", `{"id":1,"result":{}}`, Envelope{ID: []byte("1"), Result: []byte("{}")}, true},
		{"version 1", `{"jsonrpc":"1.0","id":1,"result":{}}`, Envelope{ID: []byte("1"), Result: []byte("{}")}, true},
		{"version number", `{"jsonrpc":2.0,"id":1,"result":{}}`, Envelope{ID: []byte("1"), Result: []byte("{}")}, true},
		{"null request id", `{"jsonrpc":"2.0","id":null,"method":"m"}`, Envelope{ID: []byte("null"), Method: []byte("m")}, true},
		{"method number", `{"jsonrpc":"2.0","id":1,"method":3}`, Envelope{ID: []byte("1"), Method: []byte("3")}, true},
		{"error text", `{"jsonrpc":"2.0","id":1,"error":"x"}`, Envelope{ID: []byte("1"), Error: []byte(`"x"`)}, true},
		{"nothing", `{"jsonrpc":"2.0","id":1}`, Envelope{ID: []byte("1")}, true},
		{"number", `3`, Envelope{}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Scan([]byte(c.line))
			if errors.Is(err, ErrNotMessage) != c.bad || (err != nil) != c.bad {
				t.Fatalf("error %v, want one: %v", err, c.bad)
			}
			if got.Kind != c.want.Kind {
				t.Errorf("kind %v, want %v", got.Kind, c.want.Kind)
			}
			for _, span := range []struct {
				name      string
				got, want []byte
			}{{"id", got.ID, c.want.ID}, {"method", got.Method, c.want.Method}, {"params", got.Params, c.want.Params},
				{"result", got.Result, c.want.Result}, {"error", got.Error, c.want.Error}} {
				if !bytes.Equal(span.got, span.want) || (span.got == nil) != (span.want == nil) {
					t.Errorf("%s %q, want %q", span.name, span.got, span.want)
				}
			}
		})
	}
}

func TestScanAgreesOnTruncationsAndChanges(t *testing.T) {
	for _, seed := range scanSeeds {
		for cut := range len(seed) + 1 {
			checkAgree(t, []byte(seed[:cut]))
		}
		for i := range len(seed) {
			for _, c := range []byte{0, 0x1f, ' ', '"', '\\', '{', ']', ',', ':', '0', 'e', '-', 0x7f, 0x80, 0xc3, 0xff} {
				changed := []byte(seed)
				changed[i] = c
				checkAgree(t, changed)
			}
		}
	}
}

func checkAgree(t *testing.T, raw []byte) {
	t.Helper()
	if got, want := Valid(raw) == nil, valid(raw); got != want {
		t.Errorf("Valid(%q) = %v, want %v", raw, got, want)
	}
}

// Each special byte must be seen wherever it stands in the bytes looked at together, and no other.
func TestSkipPlainSeesEveryByteEverywhere(t *testing.T) {
	const size = 90 // some of everything: words of eight, blocks of 32, single bytes
	for _, around := range []byte("a !#[]~\x7f") {
		for c := range 256 {
			for at := range size {
				text := bytes.Repeat([]byte{around}, size)
				text[at] = byte(c)
				want := size
				if c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
					want = at
				}
				if got := skipPlain(text, 0); got != want {
					t.Fatalf("byte %#x at %d among %q: skipPlain = %d, want %d", c, at, around, got, want)
				}
			}
		}
	}
}

func TestDepth(t *testing.T) {
	for _, open := range []string{"[", `{"a":`} {
		shut := map[string]string{"[": "]", `{"a":`: "}"}[open]
		for depth, want := range map[int]bool{64: true, 65: true, 128: true, 129: true, MaxDepth: true, MaxDepth + 1: false} {
			raw := []byte(strings.Repeat(open, depth) + "1" + strings.Repeat(shut, depth))
			if got := Valid(raw) == nil; got != want || got != json.Valid(raw) {
				t.Errorf("depth %d of %q: valid %v, want %v, encoding/json says %v", depth, open, got, want, json.Valid(raw))
			}
			if _, err := Scan(raw); errors.As(err, new(*SyntaxError)) == want {
				t.Errorf("depth %d of %q: Scan = %v", depth, open, err)
			}
		}
	}
	if Valid(bytes.Repeat([]byte{'['}, 10<<20)) == nil {
		t.Error("ten million brackets accepted")
	}
}

func TestScanDoesNotAllocate(t *testing.T) {
	line := []byte(`{"jsonrpc":"2.0","id":12,"result":{"content":[{"type":"text","text":"` + strings.Repeat("x", 1024) + `"}]}}`)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Scan(line); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a line, want none", n)
	}
}

func BenchmarkScan(b *testing.B) {
	prose := strings.Repeat("The quick brown fox jumps over the lazy dog and says nothing. ", 16)
	for name, text := range map[string]string{
		"1KiB":      prose,
		"1MiB":      strings.Repeat(prose, 1024),
		"escaped":   strings.Repeat(`a line of forty characters with an end\n`, 1024),
		"multibyte": strings.Repeat("übergrößenträger läuft 日本語 ", 1024),
	} {
		line := []byte(`{"jsonrpc":"2.0","id":12,"result":{"content":[{"type":"text","text":"` + text + `"}]}}`)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Scan(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	var nested bytes.Buffer
	nested.WriteString(`{"jsonrpc":"2.0","id":12,"result":[0`)
	for range 2000 {
		nested.WriteString(`,{"id": 17, "name": "value", "tags": ["a", "b"], "ok": true, "score": 3.25}`)
	}
	nested.WriteString(`]}`)
	b.Run("nested", func(b *testing.B) {
		b.SetBytes(int64(nested.Len()))
		for b.Loop() {
			if _, err := Scan(nested.Bytes()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Lines that are answers, with the request that they answer, and lines that only
// look like answers.
func TestAnswers(t *testing.T) {
	for line, want := range map[string]struct {
		kind    Kind
		answers bool
	}{
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                                          {KindResponse, true},
		`{"jsonrpc":"2.0","id":1,"error":{}}`:                                           {KindErrorResponse, true},
		`{"jsonrpc":"2.0","id":1,"method":"x","result":{}}`:                             {KindResponse, true},
		`{"jsonrpc":"2.0","id":1,"method":"","params":null,"result":{},"error":null}`:   {KindResponse, true},
		`{"jsonrpc":"2.0","id":1,"method":null,"params":null,"result":{},"error":null}`: {KindResponse, true},
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{},"result":null,"error":null}`:  {KindRequest, false},
		`{"jsonrpc":"2.0","method":"x","result":null,"error":null}`:                     {KindNotification, false},
		`{"jsonrpc":"2.0","id":1}`:                                                      {KindNone, true},
		`{"jsonrpc":"2.0","id":1,"ok":true}`:                                            {KindNone, true},
		`{"jsonrpc":"1.0","id":1,"result":{},"error":null}`:                             {KindNone, true},
		`{"id":1}`:                {KindNone, true},
		`{"id":1,"result":{}}`:    {KindNone, true},
		`{"level":"info","id":1}`: {KindNone, false},
		`{"level":"error","id":1,"error":"boom","result":null}`: {KindNone, false},
		`{"jsonrpc":"2.0"}`:             {KindNone, false},
		`{"jsonrpc":"2.0","result":{}}`: {KindNone, false},
	} {
		env, err := Scan([]byte(line))
		if env.Kind != want.kind || env.Answers != want.answers || (err == nil) != (want.kind != KindNone) {
			t.Errorf("%s: %s, answers %v, %v; want %s, %v", line, env.Kind, env.Answers, err, want.kind, want.answers)
		}
	}
}
