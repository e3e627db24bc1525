package fleet

import (
	"strings"
	"testing"
)

func TestCheckDevice(t *testing.T) {
	for device, want := range map[string]string{ // "": it is right
		"/dev/dri":                   "",
		"/dev/fuse:/dev/fuse:rw":     "",
		"/dev/fuse:/dev/other":       "",
		"/dev/fuse:r":                "",
		"nvidia.com/gpu=all":         "",
		"vendor.com/class=a.b:c-1_2": "",
		"":                           "absolute path",
		"dev/dri":                    "absolute path",
		"/":                          "absolute path",
		"/dev/..":                    "absolute path",
		"/dev/fuse:other":            "absolute path",
		"/dev/fuse:":                 "absolute path",
		"/dev/fuse:/dev/x:rwx":       "HOST",
		"/dev/a:/dev/b:/dev/c:rw":    "HOST",
		"/dev/a b":                   "white space",
		"/dev/a\n":                   "white space",
		"--privileged":               "absolute path",
		"nvidia.com/gpu":             "absolute path",
		"nvidia.com/gpu=":            "absolute path",
	} {
		err := CheckDevice(device)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", device, err, want)
		}
	}
}

func TestCheckResource(t *testing.T) {
	for name, want := range map[string]string{
		"gpu": "", "nvidia.com_gpu-1": "", "a": "", strings.Repeat("a", 63): "",
		"": "letters", "-gpu": "letters", "g p": "letters", "gpu=1": "letters", "gpu,x": "letters", strings.Repeat("a", 64): "63",
		"cpus": "resources.cpus", "memory": "resources.memory", "pids": "resources.pids",
	} {
		err := CheckResource(name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
}
