package mcp

import (
	"testing"
	"time"
)

func TestErrorsBetweenEras(t *testing.T) {
	const rest = `,"message":"Resource not found","data":{"uri":"file:///nonexistent.txt","n":9007199254740993}}`
	for _, tc := range []struct{ name, legacy, modern string }{
		{"not found", `{"code":-32002` + rest, `{"code":-32602` + rest},
		{"another", `{"code":-32603` + rest, `{"code":-32603` + rest},
		{"of our own", `{"code":-31001` + rest, `{"code":-31001` + rest},
		{"legacy range", `{"code":-32019` + rest, `{"code":-32019` + rest},
	} {
		if got := string(ErrorToModern([]byte(tc.legacy))); got != tc.modern {
			t.Errorf("%s to modern: %s, want %s", tc.name, got, tc.modern)
		}
		if got := string(ErrorToLegacy(MethodResourcesRead, []byte(tc.modern))); got != tc.legacy {
			t.Errorf("%s to legacy: %s, want %s", tc.name, got, tc.legacy)
		}
	}
	for legacy, want := range map[string]string{
		`{"code":-32042,"message":"m"}`:  `{"code":-32603,"message":"m"}`,
		`{"code":-32020,"message":"m"}`:  `{"code":-32603,"message":"m"}`,
		`{"message":"m","code": -32099}`: `{"message":"m","code": -32603}`,
		`{"message":"m"}`:                `{"message":"m"}`,
	} {
		if got := string(ErrorToModern([]byte(legacy))); got != want {
			t.Errorf("%s to modern: %s, want %s", legacy, got, want)
		}
	}
	for _, modern := range []string{
		`{"code":-32602,"message":"m"}`, `{"code":-32602,"data":{}}`, `{"code":-32602,"data":"uri"}`, `{"code":-32021,"data":{"uri":1}}`,
	} {
		if got := string(ErrorToLegacy(MethodResourcesRead, []byte(modern))); got != modern {
			t.Errorf("%s to legacy: %s", modern, got)
		}
	}
	if got := string(ErrorToLegacy(MethodToolsCall, []byte(`{"code":-32602`+rest))); got != `{"code":-32602`+rest {
		t.Errorf("of a tool to legacy: %s", got)
	}
}

// The texts are those of the specification.
func TestErrorResponses(t *testing.T) {
	failure := Failure{Code: "overloaded", RequestID: "r1", RetryAfter: 1500 * time.Millisecond}
	for _, tc := range []struct{ name, got, want string }{
		{"version", string(AppendError(nil, []byte("1"), UnsupportedVersion("1900-01-01", []string{"2026-07-28", "2025-11-25"}))),
			`{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28","2025-11-25"],"requested":"1900-01-01"}}}`},
		{"header", string(AppendError(nil, []byte("1"), headerMismatch("%s header value '%s' does not match body value '%s'", HeaderName, "foo", "bar"))),
			`{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"Header mismatch: Mcp-Name header value 'foo' does not match body value 'bar'"}}`},
		{"no id", string(AppendError(nil, nil, &Error{Code: CodeParseError, Message: "Parse error"})),
			`{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}`},
		{"raw", string(AppendRawError([]byte("data: "), []byte(`"a"`), []byte(`{"code":1}`))), `data: {"jsonrpc":"2.0","id":"a","error":{"code":1}}`},
		{"failure", string(failure.Append(nil)), `{"code":"overloaded","request_id":"r1","retry_after":2}`},
		{"result", string(AppendResult(nil, []byte("12"), []byte(`{"a":1}`))), `{"jsonrpc":"2.0","id":12,"result":{"a":1}}`},
		{"request", string(AppendRequest(nil, []byte("12"), "a/b", nil)), `{"jsonrpc":"2.0","id":12,"method":"a/b"}`},
		{"notification", string(AppendNotification(nil, "a/b", []byte("{}"))), `{"jsonrpc":"2.0","method":"a/b","params":{}}`},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.name, tc.got, tc.want)
		}
		if _, err := Scan([]byte(tc.want)); err != nil && tc.name != "raw" && tc.name != "failure" {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestParseInteger(t *testing.T) {
	for raw, want := range map[string]int64{
		"0": 0, "-0": 0, "0.000e99999999999999999999": 0, "42": 42, "42.0": 42, "-4.2E+1": -42, "4200e-2": 42, "420000.00e-4": 42,
		"9007199254740991": 9007199254740991, "-9007199254740991.000": -9007199254740991, "1e15": 1e15,
	} {
		if got, ok := parseInteger([]byte(raw)); !ok || got != want {
			t.Errorf("parseInteger(%s) = %d, %v, want %d", raw, got, ok, want)
		}
	}
	for _, raw := range []string{"", "-", "4.5", "1e-1", "9007199254740992", "1e16", "1e999999999999999999", "1e-9223372036854775808",
		"0.01e-9223372036854775808", "+1", "01", "0x1", "Infinity", "1 ", "true"} {
		if got, ok := parseInteger([]byte(raw)); ok {
			t.Errorf("parseInteger(%s) = %d, want none", raw, got)
		}
	}
}
