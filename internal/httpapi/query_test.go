package httpapi

import (
	"encoding/json"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
)

// Of several errors always the same one is reported.
func TestFirstThingWrong(t *testing.T) {
	f := newFixture()
	f.state.replicas = []api.Replica{{ID: "r1"}}
	for _, tt := range []struct{ method, path, body, want string }{
		{"GET", "/api/v1/replicas/r1/logs?timestamps=x&follow=y", "", `follow must be true or false, got "y"`},
		{"POST", "/api/v1/servers/main/restart?d=1&c=1&b=1&a=1", "", `unknown query parameter "a"`},
		{"POST", "/api/v1/servers/main/scale", `{"zz":1,"yy":1,"xx":1}`, `unknown key "xx"`},
	} {
		for range 30 { // the order of a map is random
			var e api.Error
			if resp := f.do(tt.method, tt.path, tt.body); resp.Code != 400 || json.Unmarshal(resp.Body.Bytes(), &e) != nil || e.Detail != tt.want {
				t.Errorf("%s: got %d %s, want %s", tt.path, resp.Code, resp.Body, tt.want)
				break
			}
		}
	}
}
