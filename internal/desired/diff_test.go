package desired

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

// fullSpec has a value in every field but Replicas, which it cannot have beside
// Autoscaling.
func fullSpec() fleet.Spec {
	return fleet.Spec{
		Template: fleet.Template{
			Image: "i", PullPolicy: fleet.PullAlways, Entrypoint: []string{"e"}, Command: []string{"c"}, Args: []string{"a", "<b>"},
			Env: map[string]string{"TOKEN": "s3cret", "EMPTY": ""}, Cwd: "/w", Mounts: []fleet.Mount{{Source: "/s", Target: "/t", ReadOnly: true, SELinux: "z"}},
			Network: "host", User: "1", ReadOnly: true, CapAdd: []string{"CHOWN"}, Devices: []string{"/dev/dri"}, RunOptions: []string{"--ipc=host"}, NewPrivileges: true,
			Resources: fleet.Resources{CPUs: 0.5, Memory: 1 << 20, PIDs: 9, Custom: map[string]int64{"gpu": 1}}, Labels: map[string]string{"zone": "a"}, Sessions: "shared", Era: fleet.EraLegacy,
			Health:       fleet.Health{Period: 10 * time.Second, Timeout: 5 * time.Second, Failures: 3},
			StartTimeout: time.Minute, StopGrace: 2 * time.Second, DrainTimeout: 30 * time.Second,
		},
		Autoscaling: &fleet.Autoscaling{
			MinReplicas: 1, InitialReplicas: new(2), MaxReplicas: 9, TargetOngoing: 1.5, UpscaleDelay: time.Second, DownscaleDelay: time.Minute,
			DownscaleToZeroDelay: new(5 * time.Minute), UpscalingFactor: 1, DownscalingFactor: 0.5, LookBack: 1500 * time.Millisecond,
			Schedules: []fleet.ScalingSchedule{{Cron: "0 8 * * 1-5", Timezone: "Europe/Berlin", For: 10 * time.Hour, MinReplicas: new(3), MaxReplicas: new(4)}},
		},
		Update: &fleet.Update{
			MaxSurge: fleet.Amount{Percent: 12.5}, MaxUnavailable: fleet.Amount{Count: 1}, MinReady: 5 * time.Second, ProgressDeadline: time.Minute,
			Verify:          []fleet.VerifyCall{{Tool: "t", Args: json.RawMessage(`{"a":1}`), Expect: "ok"}},
			OnBreakingTools: fleet.BreakingHold, Canary: &fleet.Canary{Steps: []float64{5, 50}, Hold: time.Minute, Gate: fleet.GateManual},
		},
		MaxSessions: 9, SessionsEach: 2, SessionIdle: time.Minute, SessionLifetime: time.Hour, OnLoss: fleet.OnLossNotFound,
		Warm: 1, MaxReplicasPerNode: 1, MaxOngoingRequests: 8, MaxQueuedRequests: 128, MaxRequestBytes: 4 << 20,
		CallTimeout: time.Minute, MaxCallDuration: 10 * time.Minute, DefaultTool: "t", EnabledTools: []string{"t", "u"}, DisabledTools: []string{"u"}, ToolOverrides: fullOverrides(),
	}
}

func fullOverrides() map[string]fleet.ToolOverride {
	return map[string]fleet.ToolOverride{"t": {
		Rename: "v", Title: new("T"), Description: new("D"),
		Annotations: fleet.ToolAnnotations{Title: new("A"), ReadOnly: new(true), Destructive: new(false), Idempotent: new(true), OpenWorld: new(false)},
	}}
}

func fullGateway() fleet.Gateway {
	return fleet.Gateway{Servers: []fleet.ServerName{"x"}, Tools: fleet.Tools{Allow: []string{"x__t", "x__u"}, Deny: []string{"x__u"}, Overrides: fullOverrides()}}
}

func TestDiff(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*fleet.Spec)
		want   string
	}{
		{"nothing", func(*fleet.Spec) {}, ""},
		{"an empty list for none", func(s *fleet.Spec) { s.Entrypoint = []string{} }, `entrypoint:["e"]>`},
		{"args", func(s *fleet.Spec) { s.Args = []string{"&"} }, `args:["a","<b>"]>["&"]`},
		{"a duration", func(s *fleet.Spec) { s.CallTimeout = 90 * time.Second }, `call_timeout:"1m0s">"1m30s"`},
		{"an added secret", func(s *fleet.Spec) { s.Env = map[string]string{"TOKEN": "s3cret", "EMPTY": "", "NEW": "n"} }, `env.NEW:>"***"`},
		{"a removed secret", func(s *fleet.Spec) { s.Env = map[string]string{"EMPTY": ""} }, `env.TOKEN:"***">`},
		{"a removed empty secret", func(s *fleet.Spec) { s.Env = map[string]string{"TOKEN": "s3cret"} }, `env.EMPTY:"***">`},
		{"a changed secret", func(s *fleet.Spec) { s.Env = map[string]string{"TOKEN": "x", "EMPTY": ""} }, `env.TOKEN:"***">"***"`},
		{"a label", func(s *fleet.Spec) { s.Labels = map[string]string{"zone": "b"} }, `labels.zone:"a">"b"`},
		{"memory", func(s *fleet.Spec) { s.Resources.Memory = 0 }, `resources.memory:1048576>`},
		{"a mount", func(s *fleet.Spec) { s.Mounts = []fleet.Mount{{Source: "/s", Target: "/t"}} },
			`mounts:[{"source":"/s","target":"/t","read_only":true,"selinux":"z"}]>[{"source":"/s","target":"/t"}]`},
		{"privileges", func(s *fleet.Spec) { s.NewPrivileges = false }, `no_new_privileges:false>`},
		{"no health checks", func(s *fleet.Spec) { s.Health.Off = true }, `health:>"off"`},
		{"a fixed number", func(s *fleet.Spec) { s.Autoscaling, s.Replicas = nil, 2 }, `replicas:>2 autoscaling.min_replicas:1> autoscaling.initial_replicas:2> ` +
			`autoscaling.max_replicas:9> autoscaling.target_ongoing_requests:1.5> autoscaling.upscale_delay_s:1> autoscaling.downscale_delay_s:60> ` +
			`autoscaling.downscale_to_zero_delay_s:300> autoscaling.upscaling_factor:1> autoscaling.downscaling_factor:0.5> autoscaling.look_back_period_s:1.5> ` +
			`autoscaling.schedules:[{"cron":"0 8 * * 1-5","timezone":"Europe/Berlin","for":"10h0m0s","min_replicas":3,"max_replicas":4}]>`},
		{"the default update", func(s *fleet.Spec) { s.Update = nil }, `update.max_surge:"12.5%">"25%" update.max_unavailable:1>0 update.progress_deadline:"1m0s">"2m0s" ` +
			`update.verify:[{"tool":"t","args":{"a":1},"expect":"ok"}]> update.on_breaking_tools:"hold">"warn" update.canary.steps:["5%","50%"]> update.canary.hold:"1m0s"> ` +
			`update.canary.gate:"manual">`},
		{"a custom resource", func(s *fleet.Spec) { s.Resources.Custom = map[string]int64{"gpu": 2, "tpu": 1} }, `resources.custom.gpu:1>2 resources.custom.tpu:>1`},
		{"tools", func(s *fleet.Spec) { s.EnabledTools, s.DisabledTools = nil, []string{"x"} }, `tools.allow:["t","u"]> tools.deny:["u"]>["x"]`},
		{"an override", func(s *fleet.Spec) {
			s.ToolOverrides = map[string]fleet.ToolOverride{"t": {Rename: "w", Annotations: fleet.ToolAnnotations{ReadOnly: new(false)}}, "u": {Description: new("<U>")}}
		}, `tools.overrides.t.rename:"v">"w" tools.overrides.t.annotations.readOnlyHint:true>false tools.overrides.u.description:>"<U>" ` +
			`tools.overrides.t.title:"T"> tools.overrides.t.description:"D"> tools.overrides.t.annotations.title:"A"> ` +
			`tools.overrides.t.annotations.destructiveHint:false> tools.overrides.t.annotations.idempotentHint:true> tools.overrides.t.annotations.openWorldHint:false>`},
		{"two", func(s *fleet.Spec) { s.Warm, s.Image = 2, "j" }, `image:"i">"j" warm:1>2`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old, new := fullSpec(), fullSpec()
			tc.change(&new)
			var parts []string
			for _, d := range Diff(&old, &new) {
				parts = append(parts, d.Field+":"+d.From+">"+d.To)
			}
			if got := strings.Join(parts, " "); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// Diff knows every field of a spec. Without one, a new revision would have no visible
// cause.
func TestDiffKnowsEveryField(t *testing.T) {
	var walk func(v reflect.Value, path string, try func(path string))
	walk = func(v reflect.Value, path string, try func(string)) {
		if v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
			walk(v.Elem(), path, try)
		}
		if v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[fleet.Amount]() {
			for i := range v.NumField() {
				walk(v.Field(i), path+"."+v.Type().Field(i).Name, try)
			}
			return
		}
		was := reflect.ValueOf(v.Interface())
		v.SetZero()
		if was.Kind() == reflect.Bool && !was.Bool() {
			v.SetBool(true)
		}
		if path == ".Replicas" {
			return
		}
		try(path)
		v.Set(was)
	}
	full, probe := fullSpec(), fullSpec()
	walk(reflect.ValueOf(&probe).Elem(), "", func(path string) {
		if reflect.DeepEqual(full, probe) {
			t.Errorf("%s is zero in fullSpec", path)
		}
		if len(Diff(&full, &probe)) == 0 {
			t.Errorf("Diff does not know %s", path)
		}
		if len(Diff(&probe, &full)) == 0 {
			t.Errorf("Diff does not know %s when it is new", path)
		}
		templates := !reflect.DeepEqual(full.Template, probe.Template)
		if (len(DiffTemplates(&full.Template, &probe.Template)) > 0) != templates || equalTemplates(&full.Template, &probe.Template) == templates {
			t.Errorf("DiffTemplates and equalTemplates disagree on %s", path)
		}
	})
}

// Names and values are written as in the fleet file.
func TestDiffSpeaksAsTheFleetFile(t *testing.T) {
	full := fullSpec()
	text, err := json.Marshal(fleetfile.View(&full))
	if err != nil {
		t.Fatal(err)
	}
	var view map[string]any
	if err := json.Unmarshal(text, &view); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{}
	var flatten func(prefix string, section map[string]any)
	flatten = func(prefix string, section map[string]any) {
		for key, v := range section {
			if inner, ok := v.(map[string]any); ok {
				flatten(prefix+key+".", inner)
			} else {
				want[prefix+key] = v
			}
		}
	}
	flatten("", view)
	got := map[string]any{}
	for _, d := range Diff(nil, &full) {
		var v any
		if err := json.Unmarshal([]byte(d.To), &v); err != nil || d.From != "" {
			t.Errorf("%s: from %q to %q: %v", d.Field, d.From, d.To, err)
		}
		got[d.Field] = v
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("fields\n got %v\nwant %v\n got %v\nwant %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)), got, want)
	}
}
