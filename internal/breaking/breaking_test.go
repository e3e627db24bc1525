package breaking

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

func anyTool(string) bool { return true }

func catalogueOf(tools ...string) *fleet.Catalogue {
	c := &fleet.Catalogue{}
	for _, t := range tools {
		c.Tools = append(c.Tools, []byte(t))
	}
	return c
}

func words(changes []Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, c.String())
	}
	return out
}

func TestTools(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old, new []string
		want     []string
	}{
		{name: "the same", old: []string{`{"name":"a"}`, `{"name":"b"}`}, new: []string{`{"name":"b"}`, `{"name":"a"}`}},
		{name: "another one more", old: []string{`{"name":"a"}`}, new: []string{`{"name":"a"}`, `{"name":"b"}`}},
		{name: "gone", old: []string{`{"name":"b"}`, `{"name":"a"}`}, new: []string{`{"name":"c"}`},
			want: []string{"tool b: it is gone", "tool a: it is gone"}},
		{name: "gone, and switched off", old: []string{`{"name":"off"}`}, new: []string{`{"name":"c"}`}},
		{name: "an odd name", old: []string{"{\"name\":\"a\\nb\"}"}, want: []string{`tool "a\nb": it is gone`}},
		{name: "entries without a name", old: []string{`{}`, `[1]`, `{"name":7}`, `x`}},
		{name: "the second of a name", old: []string{`{"name":"a"}`, `{"name":"a","annotations":{"readOnlyHint":true}}`}, new: []string{`{"name":"a"}`}},
		{name: "annotations stay", old: []string{`{"name":"a","annotations":{"readOnlyHint":true,"openWorldHint":false}}`},
			new: []string{`{"name":"a","annotations":{"readOnlyHint":true,"openWorldHint":false,"title":"A"}}`}},
		{name: "safer annotations", old: []string{`{"name":"a"}`},
			new: []string{`{"name":"a","annotations":{"readOnlyHint":true,"idempotentHint":true,"destructiveHint":false,"openWorldHint":false}}`}},
		{name: "no longer read-only", old: []string{`{"name":"a","annotations":{"readOnlyHint":true}}`}, new: []string{`{"name":"a","annotations":{"readOnlyHint":false}}`},
			want: []string{"tool a: it does not declare itself read-only any more (readOnlyHint)"}},
		{name: "annotations gone", old: []string{`{"name":"a","annotations":{"idempotentHint":true,"destructiveHint":false,"openWorldHint":false}}`}, new: []string{`{"name":"a"}`},
			want: []string{
				"tool a: it does not declare itself safe to repeat any more (idempotentHint)",
				"tool a: it may be destructive now (destructiveHint)",
				"tool a: it may reach things outside its own domain now (openWorldHint)",
			}},
		{name: "a reader need not say more", old: []string{`{"name":"a","annotations":{"idempotentHint":true,"destructiveHint":false}}`},
			new: []string{`{"name":"a","annotations":{"readOnlyHint":true}}`}},
		{name: "hints of another form promise nothing", old: []string{`{"name":"a","annotations":{"readOnlyHint":"true","destructiveHint":0}}`}, new: []string{`{"name":"a","annotations":[]}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := words(Changes(catalogueOf(tt.old...), catalogueOf(tt.new...), func(tool string) bool { return tool != "off" }))
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnknownCatalogue(t *testing.T) {
	c := catalogueOf(`{"name":"a"}`)
	if got := slices.Concat(Changes(nil, c, anyTool), Changes(c, nil, anyTool)); got != nil {
		t.Errorf("got %v of catalogues that are not known, want none", got)
	}
}

// Schemas as common servers have them.
const (
	// A server with the TypeScript SDK.
	zodSearch = `{"type":"object","properties":{
		"query":{"type":"string","description":"what to search for"},
		"count":{"type":"number","minimum":1,"maximum":20,"default":10},
		"offset":{"type":"number","maximum":9},
		"freshness":{"type":"string","enum":["pd","pw","pm","py"]}},
		"required":["query"],"additionalProperties":false,"$schema":"http://json-schema.org/draft-07/schema#"}`
	// A Python server: optional arguments are alternatives with null.
	pydanticFetch = `{"type":"object","title":"fetchArguments","properties":{
		"url":{"type":"string","title":"Url","minLength":1},
		"max_length":{"anyOf":[{"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":1000000},{"type":"null"}],"default":5000,"title":"Max Length"},
		"mode":{"anyOf":[{"enum":["raw","text"],"type":"string"},{"type":"null"}],"default":null},
		"filter":{"anyOf":[{"$ref":"#/$defs/Filter"},{"type":"null"}],"default":null},
		"headers":{"additionalProperties":{"type":"string"},"type":"object"}},
		"required":["url"],
		"$defs":{"Filter":{"type":"object","properties":{"tags":{"type":"array","items":{"type":"string"}},"limit":{"type":"integer"}},"required":["tags"]}}}`
	// A tree, by a reference to itself.
	tree = `{"type":"object","properties":{"root":{"$ref":"#/definitions/node"}},
		"definitions":{"node":{"type":"object","properties":{"name":{"type":"string"},"children":{"type":"array","items":{"$ref":"#/definitions/node"}}}}}}`
	// Alternatives that are told apart by a constant.
	union = `{"type":"object","properties":{"target":{"oneOf":[
		{"type":"object","properties":{"kind":{"const":"file"},"path":{"type":"string"}},"required":["kind","path"]},
		{"type":"object","properties":{"kind":{"const":"url"},"url":{"type":"string","format":"uri"}},"required":["kind","url"]}]}}}`
)

func TestSchemas(t *testing.T) {
	for _, tt := range []struct {
		name     string
		old      string
		from, to string   // what differs in the new one; "": the schemas are old and to
		want     []string // without "tool t: "
	}{
		{"same", zodSearch, "what to search for", "another description", nil},
		{"argument required", zodSearch, `["query"]`, `["query","count"]`, []string{"argument count is required now"}},
		{"unlisted argument required", zodSearch, `["query"]`, `["query","key"]`, []string{"argument key is required now"}},
		{"argument no longer required", zodSearch, `["query"]`, `[]`, nil},
		{"argument gone", zodSearch, `"offset"`, `"start"`, []string{"argument offset is gone"}},
		{"optional argument added", zodSearch, `"properties":{`, `"properties":{"safe":{"type":"boolean"},`, nil},
		{"whole numbers only", zodSearch, `"offset":{"type":"number"`, `"offset":{"type":"integer"`, []string{"argument offset took number, and takes only integer now"}},
		{"number for integer", pydanticFetch, `"limit":{"type":"integer"}`, `"limit":{"type":"number"}`, nil},
		{"value gone", zodSearch, `["pd","pw","pm","py"]`, `["pd","day"]`, []string{`argument freshness does not take "pm", "pw", "py" any more`}},
		{"value added", zodSearch, `["pd","pw","pm","py"]`, `["pd","pw","pm","py","all"]`, nil},
		{"value order", zodSearch, `["pd","pw","pm","py"]`, `["py","pw","pm","pd"]`, nil},
		{"values without a list", zodSearch, `"enum":["pd","pw","pm","py"]`, `"minLength":0`, nil},
		{"list of values", zodSearch, `"description":"what to search for"`, `"enum":["a","b"]`, []string{`argument query takes only "a", "b" now`}},
		{"lower maximum", zodSearch, `"maximum":20`, `"maximum":10`, []string{"argument count must be at most 10 now, before: 20"}},
		{"higher maximum", zodSearch, `"maximum":20`, `"maximum":50`, nil},
		{"exclusive maximum", zodSearch, `"maximum":20`, `"exclusiveMaximum":20`, []string{"argument count must be less than 20 now, before: 20"}},
		{"exclusive maximum in an old draft", zodSearch, `"maximum":20`, `"maximum":20,"exclusiveMaximum":true`, []string{"argument count must be less than 20 now, before: 20"}},
		{"new minimum", zodSearch, `"maximum":9`, `"minimum":0,"maximum":9`, []string{"argument offset must be at least 0 now, before: no bound"}},
		{"bounds that bound nothing", zodSearch, `"type":"number","maximum":9`, `"type":"number","minimum":-9007199254740991,"maximum":9`, nil},
		{"closed", pydanticFetch, `"required":["url"]`, `"required":["url"],"additionalProperties":false`, []string{"arguments that it does not list are refused now"}},
		{"opened", zodSearch, `"additionalProperties":false,`, ``, nil},
		{"explicitly open", pydanticFetch, `"required":["url"]`, `"required":["url"],"additionalProperties":true`, nil},
		{"gone, and taken all the same", zodSearch, `"offset":{"type":"number","maximum":9},`, ``, []string{"argument offset is gone"}},
		{"only others", zodSearch, "", `{"type":"object","additionalProperties":true}`, nil},
		{"only a pattern", zodSearch, "", `{"type":"object","patternProperties":{"^.*$":{}},"additionalProperties":false}`, nil},
		{"nothing said", zodSearch, "", `{"type":"object"}`, nil},
		{"no schema", zodSearch, "", `null`, nil},
		{"arguments are an object anyway", `{"properties":{"query":{}}}`, "", `{"type":"object","properties":{"query":{}}}`, nil},
		{"refuses all", zodSearch, "", `false`, []string{"the arguments as a whole took object, and takes nothing now"}},

		{"null gone", pydanticFetch, `{"anyOf":[{"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":1000000},{"type":"null"}],`, `{"type":"integer",`,
			[]string{"argument max_length took integer or null, and takes only integer now"}},
		{"list of types", pydanticFetch, `{"anyOf":[{"type":"integer","exclusiveMinimum":0,"exclusiveMaximum":1000000},{"type":"null"}],`, `{"type":["integer","null"],`, nil},
		{"inclusive bounds of whole numbers", pydanticFetch, `"exclusiveMinimum":0,"exclusiveMaximum":1000000`, `"minimum":1,"maximum":999999`, nil},
		{"bound within an alternative", pydanticFetch, `"exclusiveMaximum":1000000`, `"exclusiveMaximum":1000`, []string{"argument max_length must be at most 999 now, before: 999999"}},
		{"value gone within an alternative", pydanticFetch, `["raw","text"]`, `["raw"]`, []string{`argument mode does not take "text" any more`}},
		{"null gone beside values", pydanticFetch, `{"anyOf":[{"enum":["raw","text"],"type":"string"},{"type":"null"}],`, `{"enum":["raw","text"],`, []string{"argument mode took string or null, and takes only string now"}},
		{"constants for a list", pydanticFetch, `{"enum":["raw","text"],"type":"string"}`, `{"const":"raw"},{"const":"text"}`, nil},
		{"longer text", pydanticFetch, `"minLength":1`, `"minLength":8`, []string{"argument url must have at least 8 characters now, before: 1"}},
		{"pattern", pydanticFetch, `"minLength":1`, `"minLength":1,"pattern":"^https:"`, []string{`argument url must match the pattern "^https:" now`}},
		{"a format refuses nothing", pydanticFetch, `"minLength":1`, `"minLength":1,"format":"uri"`, nil},
		{"member required", pydanticFetch, `["tags"]`, `["tags","limit"]`, []string{"argument filter.limit is required now"}},
		{"items narrowed", pydanticFetch, `"items":{"type":"string"}`, `"items":{"type":"string","enum":["a"]}`, []string{`argument filter.tags[] takes only "a" now`}},
		{"items in another form", pydanticFetch, `"tags":{"type":"array","items":{"type":"string"}}`, `"tags":{"type":"string"}`,
			[]string{"argument filter.tags took array, and takes only string now"}},
		{"members of any name narrowed", pydanticFetch, `"additionalProperties":{"type":"string"}`, `"additionalProperties":{"type":"string","maxLength":10}`,
			[]string{"argument headers.* must have at most 10 characters now, before: no bound"}},
		{"reference for its definition", pydanticFetch, `{"$ref":"#/$defs/Filter"}`, `{"type":"object","properties":{"tags":{"type":"array","items":{"type":"string"}},"limit":{"type":"integer"}},"required":["tags"]}`, nil},

		{"tree, the same", tree, "", tree, nil},
		{"tree, narrowed", tree, `"name":{"type":"string"}`, `"name":{"type":"string","maxLength":8}`, []string{"argument root.name must have at most 8 characters now, before: no bound"}},
		{"tree, name required", tree, `"node":{"type":"object"`, `"node":{"type":"object","required":["name"]`, []string{"argument root.name is required now"}},

		{"alternative gone, not followed", union, `{"type":"object","properties":{"kind":{"const":"file"},"path":{"type":"string"}},"required":["kind","path"]},`, ``, nil},
		{"alternatives, other type", union, `{"oneOf":[`, `{"type":"string","oneOf":[`, []string{"argument target took object, and takes nothing now"}},
		{"alternatives to a type", union, "", `{"type":"object","properties":{"target":{"type":"string"}}}`, []string{"argument target took object, and takes only string now"}},

		{"any to a type", `{"properties":{"a":{}}}`, `{}`, `{"type":"string"}`, []string{"argument a took anything, and takes only string now"}},
		{"true to a type", `{"properties":{"a":true}}`, `true`, `{"type":["string","boolean"]}`, []string{"argument a took anything, and takes only string or boolean now"}},
		{"boolean, listed", `{"properties":{"a":{"type":"boolean"}}}`, `"type":"boolean"`, `"enum":[true,false]`, nil},
		{"boolean, one of two", `{"properties":{"a":{"type":"boolean"}}}`, `"type":"boolean"`, `"const":true`, []string{"argument a does not take false any more"}},
		{"fractions gone", `{"properties":{"a":{"type":["number","string"]}}}`, `"number"`, `"integer"`, []string{"argument a took string or number, and takes only string or integer now"}},
		{"multiple", `{"properties":{"a":{"type":"integer","multipleOf":4}}}`, `:4`, `:3`, []string{"argument a must be a multiple of 3 now"}},
		{"multiple of a part", `{"properties":{"a":{"type":"integer","multipleOf":4}}}`, `:4`, `:2`, nil},
		{"whole numbers are multiples of one", `{"properties":{"a":{"type":"integer"}}}`, `"type"`, `"multipleOf":1,"type"`, nil},
		{"unique items", `{"properties":{"a":{"type":"array"}}}`, `"type"`, `"uniqueItems":true,"type"`, []string{"argument a must have no two equal items now"}},
		{"items of one kind", `{"properties":{"a":{"type":"array"}}}`, `"type"`, `"items":{"type":"string"},"type"`, []string{"argument a[] took anything, and takes only string now"}},
		{"closed member", `{"properties":{"a":{"type":"object"}}}`, `"type"`, `"additionalProperties":false,"type"`, []string{"argument a takes no members now that it does not list"}},
		{"parts of all", `{"allOf":[{"properties":{"a":{"type":"string"}}},{"required":["a"]}]}`, "", `{"properties":{"a":{"type":"string"}},"required":["a"]}`, nil},
		{"a bound for a part", `{"properties":{"a":{"type":"string"}}}`, "", `{"allOf":[{"properties":{"a":{"maxLength":2}}},{"properties":{"a":{"minLength":1}}}]}`,
			[]string{"argument a must have at least 1 characters now, before: no bound", "argument a must have at most 2 characters now, before: no bound"}},
		{"a bound of another type", `{"properties":{"a":{"type":"string"}}}`, `"string"`, `"string","minimum":3`, nil},
		{"unknown before", `{"properties":{"a":{"not":{"type":"null"}}}}`, "", `{"properties":{"a":{"type":"string"}}}`, nil},
		{"a reference elsewhere", `{"properties":{"a":{"$ref":"https://example.com/a"}}}`, "", `{"properties":{"a":{"type":"string"}}}`, nil},
		{"a reference to nothing", `{"properties":{"a":{"$ref":"#/$defs/a"}}}`, "", `{"properties":{"a":{"type":"string"}}}`, nil},
		{"a reference to itself", `{"properties":{"a":{"$ref":"#/properties/a"}}}`, "", `{"properties":{"a":{"$ref":"#/properties/a"}}}`, nil},
		{"keys with slashes", `{"properties":{"a/b~c":{"$ref":"#/$defs/x~1y"}},"$defs":{"x/y":{"type":"string"}}}`, `"string"`, `"null"`, []string{"argument a/b~c took string, and takes only null now"}},
		{"many values", `{"properties":{"a":{"enum":[1,2,3,4,5,6,7,8]}}}`, `1,2,3,4,5,6,7,8`, `8`, []string{"argument a does not take 1, 2, 3, 4, 5 and 2 more any more"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := tt.to
			if tt.from != "" {
				if now = strings.Replace(tt.old, tt.from, tt.to, 1); now == tt.old && tt.want != nil {
					t.Fatalf("the schema has no %s", tt.from)
				}
			}
			for _, text := range []string{tt.old, now} {
				if !json.Valid([]byte(text)) {
					t.Fatalf("not JSON: %s", text)
				}
			}
			var got []string
			for _, c := range compareStrings(tt.old, now) {
				got = append(got, c.What)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if same := compareStrings(now, now); same != nil {
				t.Errorf("compared with itself it has changes: %q", words(same))
			}
		})
	}
}

func compareStrings(old, new string) []Change {
	tool := func(schema string) *fleet.Catalogue { return catalogueOf(`{"name":"t","inputSchema":` + schema + `}`) }
	return Changes(tool(old), tool(new), anyTool)
}

// A schema in which each definition names the next one twice describes 2^n parts.
func TestSchemaIsBounded(t *testing.T) {
	for _, key := range []string{"anyOf", "allOf"} {
		var defs []string
		for i := range 60 {
			defs = append(defs, fmt.Sprintf(`"d%d":{%q:[{"$ref":"#/$defs/d%d"},{"properties":{"p%d":{"$ref":"#/$defs/d%d"}}}]}`, i, key, i+1, i, i+1))
		}
		schema := fmt.Sprintf(`{"properties":{"a":{"$ref":"#/$defs/d0"}},"$defs":{%s,"d60":{"type":"string"}}}`, strings.Join(defs, ","))
		if got := compareStrings(schema, schema); got != nil {
			t.Errorf("%s: compared with itself it has changes: %q", key, words(got))
		}
	}
}

// A schema whose members refer to the whole twice has twice as many parts at each
// level.
func TestRecursionIsBounded(t *testing.T) {
	const single = `{"properties":{"x":{"$ref":"#"}}}`
	const double = `{"allOf":[{"properties":{"x":{"$ref":"#"}}},{"properties":{"x":{"allOf":[{"$ref":"#"}]}}}]}`
	for _, pair := range [][2]string{{single, double}, {double, single}, {double, double}} {
		if got := compareStrings(pair[0], pair[1]); got != nil {
			t.Errorf("%s against %s: got %q, want nothing", pair[0], pair[1], words(got))
		}
	}
}

// Schemas that are nested deeply under long names, or list many values that are read
// many times, take neither much memory nor much time.
func TestSizeIsBounded(t *testing.T) {
	const depth, values, uses = 500, 10_000, 200
	deep := strings.Repeat(`{"properties":{"`+strings.Repeat("n", 2000)+`":`, depth) + `{}` + strings.Repeat("}}", depth)
	var list, members []string
	for i := range values {
		list = append(list, fmt.Sprintf(`"v%d"`, i))
	}
	for i := range uses {
		members = append(members, fmt.Sprintf(`"p%d":{"$ref":"#/$defs/list","pattern":"%d"}`, i, i))
	}
	many := fmt.Sprintf(`{"$defs":{"list":{"enum":[%s]}},"properties":{%s}}`, strings.Join(list, ","), strings.Join(members, ","))
	for _, schema := range []string{deep, many} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if got := compareStrings(schema, schema); got != nil {
			t.Errorf("compared with itself it has changes: %q", words(got))
		}
		runtime.ReadMemStats(&after)
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 50 {
			t.Errorf("comparing a schema of %d bytes took %d MiB", len(schema), mb)
		}
	}
}

func TestSummary(t *testing.T) {
	changes := []Change{{Tool: "a", What: "it is gone"}, {Tool: "b", What: "it is gone"}, {Tool: "c", What: "it is gone"}}
	for most, want := range map[int]string{
		0: "and 3 more",
		2: "tool a: it is gone; tool b: it is gone; and 1 more",
		3: "tool a: it is gone; tool b: it is gone; tool c: it is gone",
	} {
		if got := Summary(changes, most); got != want {
			t.Errorf("of %d: got %q, want %q", most, got, want)
		}
	}
}

func FuzzChanges(f *testing.F) {
	for _, s := range []string{zodSearch, pydanticFetch, tree, union, `false`, `{"properties":3,"required":"a","items":[1]}`} {
		f.Add(s, zodSearch)
	}
	f.Fuzz(func(t *testing.T, old, new string) {
		compareStrings(old, new)
		if got := compareStrings(new, new); got != nil {
			t.Errorf("compared with itself it has changes: %q", words(got))
		}
	})
}
