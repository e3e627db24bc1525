package web

import "testing"

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "x-gzip": true, "deflate, gzip;q=1.0, *;q=0.5": true, "*": true, "br , gzip ; q=0.001": true,
		"identity": false, "gzip;q=0": false, "gzip; q=0.000, *": false, "*;q=0": false, "br": false, "gzip;q=x": false, "gzippy": false,
	} {
		if got := acceptsGzip([]string{header}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}
