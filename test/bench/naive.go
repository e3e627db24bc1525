package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const maxMessage = 80 << 20

// announce prints a child's address for the driver, as one line.
func announce(stdout io.Writer, l net.Listener) { fmt.Fprintln(stdout, l.Addr()) }

func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// bareHTTP returns the body of each request. It has the minimum cost of any HTTP
// service in Go.
func bareHTTP(ctx context.Context, stdout io.Writer) error {
	l, err := listen()
	if err != nil {
		return err
	}
	announce(stdout, l)
	return serveHTTP(ctx, l, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body) // the driver counts clients that disconnected
	})
}

func serveHTTP(ctx context.Context, l net.Listener, h http.HandlerFunc) error {
	srv := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// The naive chain is a straightforward first version. Its front decodes the request
// and calls a worker by unary gRPC with JSON in it. Its worker decodes that, encodes
// it for the pipe, decodes the reply and encodes it again.

const naiveMethod = "/bench.Naive/Call"

func naiveFront(ctx context.Context, worker string, stdout io.Writer) error {
	conn, err := grpc.NewClient(worker, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	defer conn.Close()
	l, err := listen()
	if err != nil {
		return err
	}
	announce(stdout, l)
	return serveHTTP(ctx, l, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		args, err := json.Marshal(map[string]any{"name": body["tool_name"], "arguments": body["tool_args"]})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		reply := new(wrapperspb.BytesValue)
		if err := conn.Invoke(r.Context(), naiveMethod, wrapperspb.Bytes(args), reply); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		var result any
		if err := json.Unmarshal(reply.Value, &result); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"result": result}) // see bareHTTP
	})
}

// naivePipe is the worker's end of one child: a mutex for its stdin, and a map of
// waiting calls.
type naivePipe struct {
	writing sync.Mutex // not mu, which the reader needs while a write blocks
	in      io.Writer

	mu      sync.Mutex
	next    int
	waiting map[int]chan json.RawMessage
}

type rpcMessage struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      int             `json:"id"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

func (p *naivePipe) call(ctx context.Context, params any) (json.RawMessage, error) {
	ch := make(chan json.RawMessage, 1)
	p.mu.Lock()
	p.next++
	id := p.next
	p.waiting[id] = ch
	p.mu.Unlock()
	p.writing.Lock()
	err := json.NewEncoder(p.in).Encode(rpcMessage{JSONRPC: "2.0", ID: id, Method: "tools/call", Params: params})
	p.writing.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case r := <-ch:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *naivePipe) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), maxMessage)
	for lines.Scan() {
		var m rpcMessage
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue
		}
		p.mu.Lock()
		ch := p.waiting[m.ID]
		delete(p.waiting, m.ID)
		p.mu.Unlock()
		if ch != nil {
			ch <- m.Result
		}
	}
}

func naiveWorker(ctx context.Context, stdout io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, self, "echo")
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	p := &naivePipe{in: in, waiting: make(map[int]chan json.RawMessage)}
	var reader sync.WaitGroup
	reader.Go(func() { p.read(out) })
	defer reader.Wait()
	defer func() { _ = child.Wait() }() // the driver's kill is not an error
	defer in.Close()

	srv := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Naive",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Call",
			Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				req := new(wrapperspb.BytesValue)
				if err := decode(req); err != nil {
					return nil, err
				}
				var params any
				if err := json.Unmarshal(req.Value, &params); err != nil {
					return nil, err
				}
				raw, err := p.call(ctx, params)
				if err != nil {
					return nil, err
				}
				var result any
				if err := json.Unmarshal(raw, &result); err != nil {
					return nil, err
				}
				b, err := json.Marshal(result)
				return wrapperspb.Bytes(b), err
			},
		}},
	}, p)
	l, err := listen()
	if err != nil {
		return err
	}
	announce(stdout, l)
	defer context.AfterFunc(ctx, srv.Stop)()
	return srv.Serve(l)
}
