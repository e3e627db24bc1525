package mcp

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestEdit(t *testing.T) {
	one, two := []byte("1"), []byte(`{"k":2}`)
	for _, tc := range []struct {
		name, raw string
		changes   []Change
		want      string
	}{
		{"set in the middle", `{"a":0, "b": [9007199254740993] ,"c":2}`, []Change{Set("b", one)}, `{"a":0, "b": 1 ,"c":2}`},
		{"set a new one", `{ "a":0}`, []Change{Set("b", one)}, `{"b":1, "a":0}`},
		{"set two new ones", `{"a":0}`, []Change{Set("b", one), Set("c", two)}, `{"b":1,"c":{"k":2},"a":0}`},
		{"set in an empty object", ` { } `, []Change{Set("b", one)}, ` {"b":1 } `},
		{"set in nothing", "", []Change{Set("b", one)}, `{"b":1}`},
		{"set in null", " null", []Change{Set("b", one)}, `{"b":1}`},
		{"remove from nothing", "", []Change{Remove("b")}, ""},
		{"remove from null", "null", []Change{Remove("b")}, "null"},
		{"set a duplicate", `{"a":0,"b":1,"a":2}`, []Change{Set("a", two)}, `{"a":{"k":2},"b":1}`},
		{"default of a new one", `{"a":0}`, []Change{SetDefault("b", one)}, `{"b":1,"a":0}`},
		{"default of one that is there", `{"a":0}`, []Change{SetDefault("a", one)}, `{"a":0}`},
		{"default of null", `{"a":null}`, []Change{SetDefault("a", one)}, `{"a":1}`},
		{"remove the first", `{ "a":0, "b":1 }`, []Change{Remove("a")}, `{ "b":1 }`},
		{"remove the last", `{ "a":0, "b":1 }`, []Change{Remove("b")}, `{ "a":0 }`},
		{"remove the middle", `{"a":0,"b":1,"c":2}`, []Change{Remove("b")}, `{"a":0,"c":2}`},
		{"remove the only one", `{ "a":0 }`, []Change{Remove("a")}, `{  }`},
		{"remove two at the end", `{"c":2,"a":0,"b":1}`, []Change{Remove("a"), Remove("b")}, `{"c":2}`},
		{"remove two apart", `{"a":0,"c":2,"b":1}`, []Change{Remove("a"), Remove("b")}, `{"c":2}`},
		{"remove all, set one", `{"a":0,"b":1}`, []Change{Remove("a"), Remove("b"), Set("c", one)}, `{"c":1}`},
		{"remove and set", `{"a":0,"b":1}`, []Change{Remove("a"), Set("b", two)}, `{"b":{"k":2}}`},
		{"remove a duplicate", `{"a":0,"b":1,"a":2}`, []Change{Remove("a")}, `{"b":1}`},
		{"remove an escaped key", `{"\u0061":0,"b":1}`, []Change{Remove("a")}, `{"b":1}`},
		{"within", `{"a":0,"m":{"x":1},"b":1}`, []Change{Within("m", Set("x", two), Set("y", one))}, `{"a":0,"m":{"y":1,"x":{"k":2}},"b":1}`},
		{"within a new one", `{"a":0}`, []Change{Within("m", Set("x", two), Remove("z"))}, `{"m":{"x":{"k":2}},"a":0}`},
		{"within none", `{"a":0}`, []Change{Within("m", Remove("z"))}, `{"a":0}`},
		{"within null", `{"m":null}`, []Change{Within("m", Set("x", one))}, `{"m":{"x":1}}`},
		{"within two levels", `{"m":{"n":{}}}`, []Change{Within("m", Within("n", Set("x", one)))}, `{"m":{"n":{"x":1}}}`},
		{"within what becomes empty", `{"m":{"x":1}}`, []Change{Within("m", Remove("x"))}, `{"m":{}}`},
		{"within a duplicate", `{"m":{"x":1},"a":0,"m":{"x":2}}`, []Change{Within("m", Set("y", one))}, `{"a":0,"m":{"y":1,"x":2}}`},
		{"within a duplicate below", `{"m":{"n":1,"a":0,"n":{}}}`, []Change{Within("m", Within("n", Set("y", one)))}, `{"m":{"a":0,"n":{"y":1}}}`},
		{"meta that becomes empty", `{"_meta":{"x":1},"a":0}`, []Change{InMeta(Remove("x"))}, `{"a":0}`},
		{"meta that was empty", `{"_meta":{},"a":0}`, []Change{InMeta(Remove("x"))}, `{"_meta":{},"a":0}`},
		{"meta that is all there is", `{"_meta":{"x":1}}`, []Change{InMeta(Remove("x"))}, `{}`},
		{"meta between", `{"a":0,"_meta":{"x":1,"y":2},"b":1}`, []Change{Remove("a"), InMeta(Remove("x"))}, `{"_meta":{"y":2},"b":1}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Edit([]byte(tc.raw), tc.changes...)
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
			}
		})
	}
}

func TestEditFault(t *testing.T) {
	for raw, want := range map[string]string{
		`[1]`:               "must be an object, not an array",
		`"a"`:               "must be an object, not a string",
		`{"_meta":[]}`:      "_meta: must be an object, not an array",
		`{"_meta":{}`:       "invalid JSON at line 1, column 12: unexpected end",
		`{"a":1} {}`:        "invalid JSON at line 1, column 9: text after the value",
		`nul`:               "invalid JSON at line 1, column 4: unexpected end",
		`{"_meta":{"x":01}`: "invalid JSON at line 1, column 16: unexpected '1'",
	} {
		_, err := Edit([]byte(raw), InMeta(Set("x", []byte("1"))))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", raw, err, want)
		}
	}
}

// FuzzEdit compares with a change of the decoded object.
func FuzzEdit(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, ``, `{"a":1,"b":2,"c":3,"d":{"e":1},"_meta":{"x":1,"y":2}}`, `{"_meta":{"x":1}}`,
		`{"b":1,"b":2}`, `{"a":null,"c":null,"d":null,"_meta":null}`, `{"d":{"e":1},"d":{"f":9007199254740993}}`,
		`{"_meta":{"x":1},"_meta":{"z":"é\u00e9"},"\u0061":1}`, `{"_meta":{"x":1},"b":[{"a":{}}],"_meta":{"x":3},"b":0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := string(raw)
		got, err := Edit(raw, Set("a", []byte("1")), Remove("b"), SetDefault("c", []byte(`"c"`)),
			Within("d", Set("e", []byte("[2]"))), InMeta(Remove("x"), SetDefault("y", []byte("3"))))
		if string(raw) != before {
			t.Fatal("wrote to its input")
		}
		if err != nil {
			var wrong *TypeError
			if Valid(raw) == nil && !errors.As(err, &wrong) {
				t.Fatalf("%s: %v", raw, err)
			}
			return
		}
		if err := Valid(got); err != nil {
			t.Fatalf("%s became %s: %v", raw, got, err)
		}
		want := map[string]any{}
		if strings.TrimSpace(before) != "" {
			want = decode(t, raw)
		}
		if want == nil {
			want = map[string]any{}
		}
		want["a"] = json.Number("1")
		delete(want, "b")
		if want["c"] == nil {
			want["c"] = "c"
		}
		object(want, "d")["e"] = []any{json.Number("2")}
		meta := object(want, "_meta")
		delete(meta, "x")
		if meta["y"] == nil {
			meta["y"] = json.Number("3")
		}
		if decoded := decode(t, got); !reflect.DeepEqual(decoded, want) {
			t.Errorf("%s became %s", raw, got)
		}
	})
}

func object(parent map[string]any, name string) map[string]any {
	if parent[name] == nil {
		parent[name] = map[string]any{}
	}
	return parent[name].(map[string]any)
}

func decode(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v map[string]any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}
