package program

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestExposed(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:80":                  false,
		"127.9.9.9:0":                   false,
		"[::1]:80":                      false,
		"[::ffff:127.0.0.1]:80":         false,
		"localhost:80":                  false,
		":80":                           true,
		"0.0.0.0:80":                    true,
		"[::]:80":                       true,
		"192.0.2.1:80":                  true,
		"[fe80::1%lo]:80":               true,
		"no-such-host.invalid:80":       true,
		"127.0.0.1":                     false, // without a port nothing can listen
		"127.0.0.1.example.invalid:443": true,
	} {
		if got := exposed(addr); got != want {
			t.Errorf("%s: got %v", addr, got)
		}
	}
}

func TestRefuseIfExposed(t *testing.T) {
	listeners := []Listener{{"--gossip", "127.0.0.1:0"}, {"--grpc", "0.0.0.0:7947"}}
	err := RefuseIfExposed(false, "anyone who can reach it can run programs here", listeners...)
	var usage *usageError
	if !errors.As(err, &usage) {
		t.Fatalf("got %v, want bad usage", err)
	}
	for _, want := range []string{"--grpc", "0.0.0.0:7947", "--insecure", "run programs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if err := RefuseIfExposed(true, "", listeners...); err != nil {
		t.Errorf("with --insecure: %v", err)
	}
	if err := RefuseIfExposed(false, "", listeners[0]); err != nil {
		t.Errorf("on loopback: %v", err)
	}
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	WarnIfExposed(log, "beware", "127.0.0.1:1", "localhost:2")
	if out.Len() > 0 {
		t.Errorf("warned: %s", out.String())
	}
	WarnIfExposed(log, "beware", "127.0.0.1:1", "[::]:2")
	if got := out.String(); !strings.Contains(got, "beware") || !strings.Contains(got, "addresses=[::]:2") {
		t.Errorf("warned: %s", got)
	}
}
