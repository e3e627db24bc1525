package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/api"
	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// breaking is a reader that ends with an error of its own.
type breaking struct {
	io.Reader
	err error
}

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

var streamHead, streamTail = []byte(`{"result":`), []byte(`}`)

func TestStream(t *testing.T) {
	large := `{"content":"` + strings.Repeat("0123456789", 300_000) + `"}`
	for _, tc := range []struct {
		name   string
		text   string
		size   int64
		err    error
		status int
		whole  bool
	}{
		{"whole", large, int64(len(large)), io.EOF, 200, true},
		{"unknown size", large, 0, io.EOF, 200, true},
		{"breaks half way", large[:1_000_000], int64(len(large)), fleet.ErrReplicaLost, 200, false},
		{"breaks, unknown size", large[:1_000_000], 0, fleet.ErrReplicaLost, 200, false},
		{"ends early", large[:1_000_000], int64(len(large)), io.EOF, 200, false},
		{"too long", large, int64(len(large)) - 1, io.EOF, 200, false},
		{"never begins", "", int64(len(large)), fleet.ErrReplicaLost, 502, true},
		{"empty", "", int64(len(large)), io.EOF, 500, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := serve(t, newMux(Config{}, Get("/x", Read, func(w *Response, _ *http.Request) error {
				return w.Stream(streamHead, &breaking{strings.NewReader(tc.text), tc.err}, tc.size, streamTail)
			})))
			resp, err := http.Get(srv.URL + "/x")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.status)
			}
			if tc.whole && (err != nil || tc.status == 200 && string(got) != `{"result":`+large+`}`) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if !tc.whole && err == nil {
				t.Errorf("a broken result looks whole: %d bytes", len(got))
			}
			if tc.status != 200 && !bytes.Contains(got, []byte(`"code"`)) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestCopy(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 100_000)
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, fleet.ErrReplicaLost} {
		srv := serve(t, newMux(Config{}, Get("/x", Read, func(w *Response, _ *http.Request) error {
			w.Begin(http.StatusOK, "text/plain", -1)
			return w.Copy(&breaking{strings.NewReader(large), end})
		})))
		resp, err := http.Get(srv.URL + "/x")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if whole := err == nil && string(got) == large; whole != errors.Is(end, io.EOF) {
			t.Errorf("%v: got %d bytes, %v", end, len(got), err)
		}
	}
}

// A value that cannot be encoded is an error, not half an answer.
func TestJSONThatIsInvalid(t *testing.T) {
	m := newMux(Config{}, Get("/x", Read, func(w *Response, _ *http.Request) error {
		return w.JSON(http.StatusOK, api.Server{Spec: []byte("{")})
	}))
	w := do(m, "GET", "/x", "")
	wantError(t, w.Code, w.Header(), w.Body, 500, api.CodeInternal, "internal error")
}
