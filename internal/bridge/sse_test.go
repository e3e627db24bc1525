package bridge

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// decoded is what a decoder makes of a stream.
type decoded struct {
	data  []string
	id    string
	retry time.Duration
}

func decode(t *testing.T, r io.Reader) decoded {
	t.Helper()
	d := newDecoder(r, newBuffer(t.Context(), newPlaces()), "before", nil)
	var got decoded
	for {
		e, err := d.next()
		if errors.Is(err, io.EOF) {
			got.id, got.retry = d.lastID, d.retry
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got.data = append(got.data, string(e.data))
	}
}

func TestDecoder(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, tt := range []struct {
		name, in string
		want     []string
		id       string // "" is "before"
		retry    time.Duration
	}{
		{name: "nothing"},
		{name: "an event", in: "data: a\n\n", want: []string{"a"}},
		{name: "without the space", in: "data:a\n\n", want: []string{"a"}},
		{name: "only one space is dropped", in: "data:  a\n\n", want: []string{" a"}},
		{name: "several lines of data", in: "data: a\ndata: b\n\n", want: []string{"a\nb"}},
		{name: "data without a colon", in: "data\ndata\n\n", want: []string{"\n"}},
		{name: "empty data", in: "data:\n\n", want: []string{""}},
		{name: "CRLF", in: "data: a\r\n\r\ndata: b\r\n\r\n", want: []string{"a", "b"}},
		{name: "CR", in: "data: a\r\rdata: b\r\r", want: []string{"a", "b"}},
		{name: "mixed ends", in: "data: a\rdata: b\ndata: c\r\n\r\ndata: d\n\r", want: []string{"a\nb\nc", "d"}},
		{name: "a byte order mark", in: "\xef\xbb\xbfdata: a\n\n", want: []string{"a"}},
		{name: "only the first mark is one", in: "\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", want: []string{"b"}},
		{name: "comments", in: ": hi\n\ndata: a\n:\n\n", want: []string{"a"}},
		{name: "unknown fields", in: "foo: a\nDATA: b\ndatax: c\ndat: d\ndata: e\n\n", want: []string{"e"}},
		{name: "an id", in: "id: 7\ndata: a\n\ndata: b\n\n", want: []string{"a", "b"}, id: "7"},
		{name: "an id without data", in: "id: 7\n\n", id: "7"},
		{name: "an id with empty data", in: "id: 7\ndata:\n\n", want: []string{""}, id: "7"},
		{name: "an id of an unfinished event", in: "id: 7\ndata: a\n\nid: 8\ndata: b\n", want: []string{"a"}, id: "7"},
		{name: "an id with a NUL", in: "id: 7\n\nid: 8\x00\n\n", id: "7"},
		{name: "an id with a colon", in: "id: a:b\n\n", id: "a:b"},
		{name: "an unfinished event", in: "data: a\n\ndata: b", want: []string{"a"}},
		{name: "other types", in: "event: ping\ndata: a\n\nevent: message\ndata: b\n\nevent:\ndata: c\n\n", want: []string{"b", "c"}},
		{name: "an id of another type", in: "event: ping\nid: 9\ndata: a\n\n", id: "9"},
		{name: "retry", in: "retry: 1500\n\n", retry: 1500 * time.Millisecond},
		{name: "retry 0", in: "retry:0\n\n", retry: 0},
		{name: "no retry", in: "retry: 1s\nretry: -1\nretry:\nretry: +5\n\n", retry: -1},
		{name: "long", in: "data: " + long + "\r\ndata: " + long + "\r\n\r\nid: 1\ndata: b\n\n", want: []string{long + "\n" + long, "b"}, id: "1"},
		{name: "a long comment", in: ":" + long + "\ndata: a\n\n", want: []string{"a"}},
		{name: "a long id", in: "id: " + long + "\ndata: a\n\n", want: []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.id == "" {
				tt.id = "before"
			}
			if tt.retry == 0 && !strings.Contains(tt.in, "retry:0") {
				tt.retry = -1
			}
			for name, r := range map[string]io.Reader{"whole": strings.NewReader(tt.in), "by bytes": iotest.OneByteReader(strings.NewReader(tt.in))} {
				got := decode(t, r)
				if !slices.Equal(got.data, tt.want) || got.id != tt.id || got.retry != tt.retry {
					t.Errorf("%s: got %.200q %q %s, want %.200q, id %q, retry %s", name, got.data, got.id, got.retry, tt.want, tt.id, tt.retry)
				}
			}
		})
	}
}

// FuzzDecoder compares the decoder with a slow one that is written after the
// steps of the standard.
func FuzzDecoder(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "id: 1\r\ndata:b\r\n\r\n", "event: x\rdata\r\r", ":c\nretry: 5\n\n", "\xef\xbb\xbfdata: a\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, want := decode(t, strings.NewReader(in)), standard(in)
		if !slices.Equal(got.data, want.data) || got.id != want.id || got.retry != want.retry {
			t.Errorf("%q: got %+v, want %+v", in, got, want)
		}
	})
}

func standard(in string) decoded {
	in = strings.TrimPrefix(in, "\xef\xbb\xbf")
	in = strings.ReplaceAll(strings.ReplaceAll(in, "\r\n", "\n"), "\r", "\n")
	got := decoded{id: "before", retry: -1}
	data, id, name := "", "before", ""
	lines := strings.Split(in, "\n")
	for _, line := range lines[:len(lines)-1] {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			got.id = id
			if data != "" && (name == "" || name == "message") {
				got.data = append(got.data, strings.TrimSuffix(data, "\n"))
			}
			data, name = "", ""
		case field == "data":
			data += value + "\n"
		case field == "id" && !strings.Contains(value, "\x00"):
			id = value
		case field == "event":
			name = value
		case field == "retry" && digits([]byte(value)) && len(value) < 10:
			var ms int64
			for _, c := range value {
				ms = 10*ms + int64(c-'0')
			}
			got.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return got
}

func TestDecoderBoundsMessages(t *testing.T) {
	body := newBuffer(t.Context(), newPlaces())
	body.max = 10
	d := newDecoder(strings.NewReader("data: 123456789\n\ndata: 1234567890\n\n"), body, "", nil)
	if e, err := d.next(); err != nil || string(e.data) != "123456789" {
		t.Errorf("got %q, %v", e.data, err)
	}
	if _, err := d.next(); !errors.Is(err, errTooLong) {
		t.Errorf("got %v", err)
	}
}
