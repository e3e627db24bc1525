package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func contains(err error, s string) bool { return err != nil && strings.Contains(err.Error(), s) }

// A connection that is meant for another controller, or comes from another
// cluster, is closed before raft reads from it.
func TestHello(t *testing.T) {
	c, s := one(t)
	eventually(t, "cluster id", func() error {
		if s.dir.Cluster() == "" {
			return errors.New("not written yet")
		}
		return nil
	})
	addr, _ := c.net.resolve(s.ID())
	tests := map[string]struct {
		line string
		want string // of the error, in conn.Read
	}{
		"right":           {fmt.Sprintf(`{"to":%q,"cluster":%q}`, s.ID(), s.Cluster()), ""},
		"new controller":  {fmt.Sprintf(`{"to":%q}`, s.ID()), ""},
		"another one":     {`{"to":"other"}`, "meant for controller other"},
		"another cluster": {fmt.Sprintf(`{"to":%q,"cluster":"theirs"}`, s.ID()), "order from another cluster"},
		"no json":         {"GET / HTTP/1.1", "not a controller"},
		"endless":         {strings.Repeat("x", 2*maxHello), "too long"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				defer far.Close()
				io.WriteString(far, tt.line+"\npayload")
			}()
			got, err := io.ReadAll(&conn{Conn: near, layer: s.net.layer, greet: true})
			if tt.want == "" && (err != nil || string(got) != "payload") || tt.want != "" && (!contains(err, tt.want) || len(got) > 0) {
				t.Errorf("read %q, %v; want error %q", got, err, tt.want)
			}
		})
	}
	t.Run("on the wire", func(t *testing.T) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, tests["another one"].line+"\n")
		if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) || n > 0 {
			t.Errorf("read %d, %v; want the connection closed", n, err)
		}
	})
}

func TestDialUnknown(t *testing.T) {
	l := &layer{}
	if _, err := l.Dial("someone@", time.Second); !contains(err, "address of controller someone is not known") {
		t.Errorf("Dial: %v", err)
	}
}

func TestRaftLogIsQuiet(t *testing.T) {
	var out bytes.Buffer
	log := newHCLog(slog.New(slog.NewTextHandler(&out, nil)))
	peer := raft.Server{ID: "p1", Address: "placeholder"}
	log.Info("election won")
	log.Warn("not part of stable configuration")
	log.Error("failed to heartbeat to", "peer", peer, "error", errors.New("refused"))
	log.With("a", 1).Error("failed to heartbeat to", "peer", peer)
	log.Named("x").Error("failed to heartbeat to", "peer", raft.Server{ID: "p2"}, "servers", hclog.Fmt("%d", 3))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "peer=p1") || strings.Contains(out.String(), "placeholder") || !strings.Contains(lines[1], "servers=3") {
		t.Errorf("log = %s, want one warning for each peer", out.String())
	}
	r := recent{said: map[string]time.Time{}}
	now := time.Now()
	for i, want := range []bool{false, true, false} {
		if got := r.repeats("x", now.Add(time.Duration(i)*repeatAfter*2/3)); got != want {
			t.Errorf("time %d: repeats = %v, want %v", i, got, want)
		}
	}
}

// A leader whose entries do not fit the local log learns that, whatever is wrong with
// the disk, and sends earlier ones. It learns why entries could not be stored.
func TestWhatALeaderIsAnswered(t *testing.T) {
	failing := func() *diskWatch {
		w := unwatched()
		_ = w.do(opAppend, func() error { return errFull })
		return w
	}
	tests := map[string]struct {
		watch func() *diskWatch
		resp  raft.AppendEntriesResponse
		want  string // the error; "": the response itself
	}{
		"stored":                             {failing, raft.AppendEntriesResponse{Term: 3, Success: true}, ""},
		"not stored":                         {failing, raft.AppendEntriesResponse{Term: 3}, errFull.Error()},
		"not stored, nothing known":          {unwatched, raft.AppendEntriesResponse{Term: 3}, ""},
		"does not fit":                       {unwatched, raft.AppendEntriesResponse{Term: 3, NoRetryBackoff: true}, ""},
		"does not fit, and an append failed": {failing, raft.AppendEntriesResponse{Term: 3, NoRetryBackoff: true}, ""},
		"of an old term":                     {failing, raft.AppendEntriesResponse{Term: 4}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tr := &transport{watch: tt.watch()}
			resp := tt.resp
			got := tr.stored(&raft.AppendEntriesRequest{Term: 3}, raft.RPCResponse{Response: &resp})
			if tt.want == "" && got.Error != nil || tt.want != "" && !contains(got.Error, tt.want) {
				t.Errorf("error %v, want %q", got.Error, tt.want)
			}
		})
	}
}
