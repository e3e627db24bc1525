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
		"":                          `"" is not a host name`,
		" a.example":                `" a.example" is not a host name`,
		"https://fleet.example.com": "is a URL",
		"fleet.example.com:8443":    "has a port",
		"a.*.example":               "is not a host name",
		"*example.com":              "is not a host name",
		"*.":                        "is not a host name",
		"**":                        "is not a host name",
		"a..b":                      "is not a host name",
		"bücher.example":            "is not a host name",
	} {
		if err := CheckAllowedHosts([]string{"ok", host}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", host, err, want)
		}
	}
}
