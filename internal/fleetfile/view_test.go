package fleetfile

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The view of a template has a key for every field of a template that is set,
// and none for what a spec has beside it. A field that is added to a spec or a
// template has a field of the same name in ServerView, or fails here.
func TestTemplateView(t *testing.T) {
	view := reflect.TypeFor[ServerView]()
	keys := func(of reflect.Type) (keys []string) {
		for i := range of.NumField() {
			name := of.Field(i).Name
			switch name {
			case "Template": // embedded
				continue
			case "NewPrivileges": // shown as its opposite
				name = "NoNewPrivileges"
			case "ToolOverrides": // shown together with the lists
				name = "Tools"
			}
			field, ok := view.FieldByName(name)
			if !ok {
				t.Errorf("%s of %s has no field of that name in %s", of.Field(i).Name, of, view)
			}
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			keys = append(keys, key)
		}
		return keys
	}
	inTemplate, inSpec := keys(reflect.TypeFor[fleet.Template]()), keys(reflect.TypeFor[fleet.Spec]())
	if n := len(inTemplate) + len(inSpec); n != view.NumField() {
		t.Errorf("a spec has %d fields, its view %d", n, view.NumField())
	}
	text, err := TemplateView(&fleet.Template{
		Image: "x", PullPolicy: fleet.PullAlways, Entrypoint: []string{"e"}, Command: []string{"c"}, Args: []string{"a"},
		Env: map[string]string{"TOKEN": "secret"}, Cwd: "/", Mounts: []fleet.Mount{{Source: "/s", Target: "/t"}}, Network: "none", User: "1",
		ReadOnly: true, CapAdd: []string{"CHOWN"}, Devices: []string{"/dev/dri"}, RunOptions: []string{"--ipc=host"}, NewPrivileges: true, Resources: fleet.Resources{CPUs: 1},
		Labels: map[string]string{"a": "b"}, Sessions: "shared", Era: fleet.EraModern, Health: fleet.Health{Failures: 1}, StartTimeout: 1, StopGrace: 1, DrainTimeout: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	var shown map[string]json.RawMessage
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	for _, key := range inTemplate {
		if shown[key] == nil {
			t.Errorf("%s is missing in %s", key, text)
		}
		delete(shown, key)
	}
	if len(shown) > 0 || strings.Contains(string(text), "secret") {
		t.Errorf("shown beside the template, or not masked: %s", text)
	}
}
