package catalogue

import "testing"

func TestTemplate(t *testing.T) {
	for _, tt := range []struct {
		template, uri string
		want          bool
	}{
		{"f:{n}", "f:1", true}, {"f:{n}", "f:", false}, {"f:{n}", "f:a/b", false}, {"f:{n}", "g:1", false},
		{"f:{+n}", "f:a/b", true}, {"f:{n*}", "f:a/b", true},
		{"h:{n}{?q}", "h:1", true}, {"h:{n}{?q}", "h:1?q=2", true}, {"h:{n}{/rest}/end", "h:1/end", true},
		{"f:{n}/x", "f:1/x", true}, {"f:{n}/x", "f:1/y", false}, {"f:.{n}", "f:a1", false},
		{"f:{n", "f:anything", true}, {"f:plain", "f:plain", true},
	} {
		if got := newTemplate(tt.template).matches(tt.uri); got != tt.want {
			t.Errorf("%s matches %s: %t, want %t", tt.template, tt.uri, got, tt.want)
		}
	}
}
