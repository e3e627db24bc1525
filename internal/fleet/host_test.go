package fleet

import (
	"strings"
	"testing"
)

func TestCheckAllowedHosts(t *testing.T) {
	if err := CheckAllowedHosts([]string{"*", "fleet.example.com", "*.Example.com.", "my_box", "192.0.2.1", "::1", "[::1]", "xn--bcher-kva.example"}); err != nil {
		t.Error(err)
	}
	for host, want := range map[string]string{
		"":                          `"" is no host name`,
		" a.example":                `" a.example" is no host name`,
		"https://fleet.example.com": "is a URL",
		"fleet.example.com:8443":    "has a port",
		"a.*.example":               "is no host name",
		"*example.com":              "is no host name",
		"*.":                        "is no host name",
		"**":                        "is no host name",
		"a..b":                      "is no host name",
		"bücher.example":            "is no host name",
	} {
		if err := CheckAllowedHosts([]string{"ok", host}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", host, err, want)
		}
	}
}
