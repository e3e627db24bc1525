package fleet

import (
	"strings"
	"testing"
)

func TestCheckImage(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0123456789abcdef", 4)
	for _, image := range []string{
		"x", "x:1", "mcp/time", "docker.io/mcp/time:latest", "docker.io/mcp/time" + digest, "docker.io/mcp/time:1" + digest, "localhost/a", "localhost:5000/a/b_c/d__e:v1.2-x",
		"Registry.Example.com/a", "10.0.0.1:5000/a", "[fd00::1]:5000/a", "a.b/c-d", strings.Repeat("0a", 32),
	} {
		if err := CheckImage(image); err != nil {
			t.Errorf("%s: %v", image, err)
		}
	}
	for image, want := range map[string]string{
		"": "as docker.io", "UPPER": "lower case", "docker.io/MCP/time": "lower case", "docker://docker.io/x": "without a scheme", "a:b:c": "as docker.io", "a//b": "as docker.io",
		"a/": "as docker.io", "/a": "as docker.io", ":x": "as docker.io", "a@b": "as docker.io", "a:": "as docker.io", "a b": "as docker.io", "-v": "as docker.io", "a\n": "as docker.io",
		"x@sha256:ab": "as docker.io",
	} {
		if err := CheckImage(image); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", image, err, want)
		}
	}
}
