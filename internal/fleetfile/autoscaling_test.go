package fleetfile

import "testing"

func TestWarnsOfATargetOutOfReach(t *testing.T) {
	for _, tt := range []struct{ name, keys, want string }{
		{"within reach", "autoscaling: {target_ongoing_requests: 8}", ""},
		{"a fixed number", "replicas: 3\n    max_ongoing_requests: 1", ""},
		{
			"above the default", "autoscaling: {target_ongoing_requests: 8.5}",
			"f.yaml:4:18: servers.x.autoscaling.target_ongoing_requests: is 8.5, and max_ongoing_requests is 8: a replica is added only when calls wait; lower the target, or raise max_ongoing_requests",
		},
		{
			"the default, above what is written", "replicas: auto\n    max_ongoing_requests: 1",
			"f.yaml:5:27: servers.x.autoscaling.target_ongoing_requests: is 2, and max_ongoing_requests is 1: a replica is added only when calls wait; lower the target, or raise max_ongoing_requests",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := mustParse(t, "f.yaml", "servers:\n  x:\n    image: docker.io/mcp/x\n    "+tt.keys+"\n")
			got := ""
			for _, w := range f.Warnings {
				got += w.String()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
