package web

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestQuery(t *testing.T) {
	type values struct {
		text string
		list []string
		flag bool
		n    int64
		d    time.Duration
	}
	unset := values{n: -1, d: -1}
	for _, tt := range []struct {
		method, query string
		want          values
		err           string // "" for none
	}{
		{"GET", "", unset, ""},
		{"GET", "text=a%20b&list=x,y&list=z&flag=1&n=7&d=90s", values{"a b", []string{"x", "y", "z"}, true, 7, 90 * time.Second}, ""},
		{"GET", "flag", values{n: -1, d: -1, flag: true}, ""},
		{"GET", "flag=false&n=2", values{n: 2, d: -1}, ""},
		{"GET", "n=8&n=x", values{n: 8, d: -1}, ""},
		{"GET", "unknown=1", unset, ""},
		{"HEAD", "unknown=1", unset, ""},
		{"POST", "unknown=1", unset, `unknown query parameter "unknown"`},
		{"DELETE", "fla=1", unset, `unknown query parameter "fla"; did you mean "flag"?`},
		{"PUT", "z=1&y=1&flag=1", unset, `unknown query parameter "y"`},
		{"GET", "a=%zz", unset, "query: "},
		{"GET", "flag=maybe", unset, `flag must be true or false, got "maybe"`},
		{"GET", "n=1", unset, `n must be a number from 2 to 10, got "1"`},
		{"GET", "n=11", unset, "n must be a number"},
		{"GET", "n=-3", unset, "n must be a number"},
		{"GET", "n=99999999999999999999", unset, "n must be a number"},
		{"GET", "n=", unset, "n must be a number"},
		{"GET", "d=90", unset, `d must be a duration from 1s to 1h0m0s, like 30s, got "90"`},
		{"GET", "d=999ms", unset, "d must be a duration"},
		{"GET", "d=2h", unset, "d must be a duration"},
		{"GET", "d=x&flag=x", unset, "flag must be"}, // in the order of the parameters
	} {
		got := unset
		err := Query(httptest.NewRequest(tt.method, "/x?"+tt.query, nil),
			Text("text", &got.text), List("list", &got.list), Flag("flag", &got.flag), Number("n", &got.n, 2, 10), Duration("d", &got.d, time.Second, time.Hour))
		switch {
		case tt.err == "" && (err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want)):
			t.Errorf("%s ?%s: got %+v, %v; want %+v", tt.method, tt.query, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)):
			t.Errorf("%s ?%s: got %v, want %s", tt.method, tt.query, err, tt.err)
		}
	}
}
