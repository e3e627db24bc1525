package bridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/client/transport"
	mcpgo "github.com/mark3labs/mcp-go/mcp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	gosdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcphttp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// answers is a front's router that answers each call with a notification and a result.
type answers struct {
	mcphttp.Router
	params, result string
	large          bool // the result comes piece by piece
}

func (a *answers) Admit(fleet.ServerName) error { return nil }

func (a *answers) Call(_ context.Context, c fleet.Call) (fleet.CallResult, error) {
	c.Sent("w1")
	c.Message(fleet.Message{Seq: 1, Kind: fleet.MessageNotification, Method: "notifications/message", Params: []byte(a.params)})
	if a.large {
		pieces := iotest.HalfReader(strings.NewReader(a.result))
		return fleet.CallResult{Stream: io.NopCloser(pieces), StreamSize: int64(len(a.result)), Seq: 2}, nil
	}
	return fleet.CallResult{Result: []byte(a.result), Seq: 2}, nil
}

// These have what a front needs for such calls. The rest is missing.
type (
	oneServer  struct{ mcphttp.View }
	oneOffer   struct{ mcphttp.Offers }
	noSessions struct{ mcphttp.Sessions }
	plainSeal  struct{}
)

func (oneOffer) View(fleet.Scope) (mcphttp.View, error) { return oneServer{}, nil }

func (oneServer) Info() *fleet.ViewInfo {
	return &fleet.ViewInfo{Protocol: "2025-11-25", Capabilities: []byte("{}"), ServerInfo: []byte("{}")}
}

func (oneServer) Only() (fleet.Destination, bool) { return fleet.Destination{Server: "srv"}, true }
func (noSessions) Ended(fleet.SessionID) bool     { return false }
func (noSessions) OnEnd(func(fleet.SessionID))    {}
func (plainSeal) Seal(_ string, text []byte) (string, error) {
	return base64.RawURLEncoding.EncodeToString(text), nil
}
func (s plainSeal) SealName(purpose string, text []byte) (string, error) {
	return s.Seal(purpose, text)
}
func (plainSeal) Open(_, token string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(token)
}

// direct is a transport that has a handler answer, in a session unless that is "".
type direct struct {
	http.Handler
	session string
}

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if d.session != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Mcp-Session-Id", d.session)
	}
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// readGoSDK has go-sdk send a request, and returns the notification and the response that
// it reads.
func readGoSDK(t *testing.T, client *http.Client) (*jsonrpc.Request, *jsonrpc.Response) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := (&gosdk.StreamableClientTransport{Endpoint: "http://fleet/srv/mcp", HTTPClient: client, MaxRetries: -1, DisableStandaloneSSE: true}).Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id, err := jsonrpc.MakeID("2")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(ctx, &jsonrpc.Request{ID: id, Method: "x/any"}); err != nil {
		t.Fatalf("go-sdk: %v", err)
	}
	var got [2]jsonrpc.Message
	for i := range got {
		if got[i], err = conn.Read(ctx); err != nil {
			t.Fatalf("go-sdk, message %d: %v", i, err)
		}
	}
	notification, _ := got[0].(*jsonrpc.Request)
	response, _ := got[1].(*jsonrpc.Response)
	if notification == nil || response == nil || response.ID != id {
		t.Fatalf("go-sdk got %+v and %+v", got[0], got[1])
	}
	return notification, response
}

// FuzzFront has a front write messages as events, and reads them back: with the decoder
// and with the readers of mcp-go and go-sdk.
func FuzzFront(f *testing.F) {
	a := &answers{}
	log := slog.New(slog.DiscardHandler)
	front := mcphttp.New(mcphttp.Config{Offers: oneOffer{}, Router: a, Sessions: noSessions{}, Sealer: plainSeal{}, Log: log})
	mux := web.NewMux(web.Config{AllowedHosts: []string{"*"}, Log: log}, front.Routes()...)
	other, err := transport.NewStreamableHTTP("http://fleet/srv/mcp", transport.WithHTTPBasicClient(&http.Client{Transport: direct{Handler: mux}}))
	if err != nil {
		f.Fatal(err)
	}
	begin := map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "c", "version": "1"}}
	if _, err := other.SendRequest(f.Context(), transport.JSONRPCRequest{JSONRPC: "2.0", ID: mcpgo.NewRequestId(0), Method: "initialize", Params: begin}); err != nil {
		f.Fatal(err)
	}
	session := other.GetSessionId()

	for _, seed := range []string{"{}", "null", `""`, "{\n}", "{\r\n\"a\"\r:\n[\n1,\r2\n]\r}\n\n", "\"\u2028\u2029\u0085\"", `{"a":"\n\r\u2028data: b\n\n"}`, "[\n\n\"id: 1\",\n\n\"event: x\"\n\n]", " {} ", "\r1e400\n", `12345678901234567890`} {
		f.Add(`{"level":"info","data":1}`, seed, "id", false)
		f.Add("{\"data\":\n"+strings.TrimSpace(seed)+"\r}", seed, "a\nb\r\u2028\x00: ", true)
	}
	f.Add("{}", `"`+strings.Repeat("long\u2028", 50_000)+`"`, strings.Repeat("i", 300), true)
	f.Fuzz(func(t *testing.T, params, result, key string, large bool) {
		for _, raw := range []string{params, result} {
			if !json.Valid([]byte(raw)) || !utf8.ValidString(raw) {
				return // a worker passes no such messages on
			}
		}
		a.params, a.result, a.large = params, result, large
		id, err := json.Marshal(strings.ToValidUTF8(key, ""))
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/srv/mcp", strings.NewReader(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"x/any"}`, id)))
		r.Header.Set("Mcp-Session-Id", session)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)

		d := newDecoder(w.Body, newBuffer(t.Context(), newPlaces()), "", nil)
		for i, want := range []string{
			"", // the id of the stream's beginning
			`{"jsonrpc":"2.0","method":"notifications/message","params":` + params + `}`,
			fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result),
		} {
			e, err := d.next()
			if err != nil {
				t.Fatalf("event %d: %v in %q", i, err, w.Body)
			}
			if want != "" && compact(e.data) != compact([]byte(want)) || want == "" && len(e.data) > 0 {
				t.Fatalf("got %q, want %q", e.data, want)
			}
			fields := strings.Split(d.lastID, ".")
			if request, err := base64.RawURLEncoding.DecodeString(fields[len(fields)-1]); err != nil || string(request) != string(id) && len(id) <= 256 {
				t.Fatalf("the id of event %d is %q, for request %s", i, d.lastID, id)
			}
		}
		if e, err := d.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("another event: %q, %v", e.data, err)
		}
		res, err := other.SendRequest(t.Context(), transport.JSONRPCRequest{JSONRPC: "2.0", ID: mcpgo.NewRequestId(1), Method: "x/any"})
		if err != nil || compact(res.Result) != compact([]byte(result)) {
			t.Fatalf("mcp-go got %+v, %v, want %q", res, err, result)
		}
		said, answer := readGoSDK(t, &http.Client{Transport: direct{mux, session}})
		if compact(said.Params) != compact([]byte(params)) || compact(answer.Result) != compact([]byte(result)) {
			t.Fatalf("go-sdk got params %q and result %q, want %q and %q", said.Params, answer.Result, params, result)
		}
	})
}

// compact returns JSON without white space, or "" for what is not JSON.
func compact(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return ""
	}
	return b.String()
}
