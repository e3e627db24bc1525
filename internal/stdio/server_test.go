package stdio_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/stdio"
)

// serverEnv makes the test binary a stdio server: see TestMain.
const serverEnv = "MCPFLEET_TEST_STDIO_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		serve(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// server is a stdio server that does what the called method's name says.
type server struct {
	in    *bufio.Reader
	out   *bufio.Writer
	lines int
	held  []string // ids of "hold"
}

// serve answers until its input ends or a method makes it stop.
func serve(in io.Reader, out io.Writer) {
	s := &server{in: bufio.NewReaderSize(in, 64<<10), out: bufio.NewWriterSize(out, 64<<10)}
	for {
		if s.in.Buffered() == 0 {
			s.out.Flush()
		}
		msg, ok := s.read()
		if !ok || !s.do(msg) {
			s.out.Flush()
			return
		}
	}
}

// message is valid until the next read.
type message struct {
	id, method string
	params     []byte
}

func (s *server) read() (message, bool) {
	raw, err := s.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		var rest []byte
		raw = bytes.Clone(raw)
		rest, err = s.in.ReadBytes('\n')
		raw = append(raw, rest...)
	}
	if err != nil {
		return message{}, false
	}
	s.lines++
	env, err := mcp.Scan(raw)
	if err != nil {
		fmt.Fprintf(s.out, "the test server got a bad line: %v\n", err)
		return message{}, true
	}
	return message{string(env.ID), string(env.Method), env.Params}, true
}

func (s *server) begin(id string) {
	s.out.WriteString(`{"jsonrpc":"2.0","id":`)
	s.out.WriteString(id)
	s.out.WriteString(`,"result":`)
}

func (s *server) reply(id, result string) {
	s.begin(id)
	s.out.WriteString(result)
	s.out.WriteString("}\n")
}

func (s *server) do(m message) bool {
	var p struct{ Size, Count int }
	if m.method != "echo" && m.params != nil {
		_ = json.Unmarshal(m.params, &p)
	}
	switch m.method {
	case "echo":
		s.begin(m.id)
		s.out.Write(m.params)
		s.out.WriteString("}\n")
	case "lines":
		s.reply(m.id, fmt.Sprint(s.lines))
	case "big":
		s.reply(m.id, `"`+strings.Repeat("x", p.Size)+`"`)
	case "big, once cancelled":
		s.out.WriteString(`{"jsonrpc":"2.0","method":"notifications/started"}` + "\n")
		s.out.Flush()
		s.read()
		s.reply(m.id, `"`+strings.Repeat("x", p.Size)+`"`)
	case "big, id last":
		fmt.Fprintf(s.out, `{"jsonrpc":"2.0","result":{"id":1,"text":"%s"},"id":%s}`+"\n", strings.Repeat("x", p.Size), m.id)
	case "mute":
	case "hold":
		if s.held = append(s.held, m.id); len(s.held) == p.Count {
			for i := range s.held {
				id := s.held[len(s.held)-1-i]
				s.reply(id, `{"held":`+id+`}`)
			}
			s.held = nil
		}
	case "stop reading":
		s.reply(m.id, "{}")
		s.out.Flush()
		select {}
	case "noise":
		s.out.WriteString("\n   \r\nServer listening on stdio\n{\"level\":\"info\",\"id\":" + m.id + "}\n[1,2]\n\xff\xfe\n{\"jsonrpc\":\"2.0\"\n")
		s.out.WriteString(strings.Repeat("noise ", 100_000) + "\n")
		s.reply(m.id, "{}")
	case "bad utf-8":
		s.reply(m.id, "\"a\xe2\x82b\xff\"")
	case "large bad utf-8":
		s.reply(m.id, `"`+strings.Repeat("\xff", p.Size)+`"`)
	case "byte order mark":
		s.out.WriteString("\uFEFF")
		s.reply(m.id, "{}")
	case "no result":
		fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":%s}`+"\n", m.id)
	case "method repeated":
		fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":%s,"method":"method repeated","result":{}}`+"\n", m.id)
	case "bad json":
		s.reply(m.id, `{"a":}`)
	case "no version":
		fmt.Fprintf(s.out, `{"id":%s,"result":{}}`+"\n", m.id)
	case "string id":
		fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":"%s","result":"taken"}`+"\n", m.id)
	case "float id":
		s.reply(m.id+".0", "{}")
	case "foresee":
		s.reply("1000000", "{}")
		s.reply(m.id, "{}")
	case "batch":
		fmt.Fprintf(s.out, `[{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":%s,"result":{"in":"batch"}}]`+"\n", m.id)
	case "nested batch":
		s.out.WriteString(strings.Repeat("[", 9000) + `{"jsonrpc":"2.0","id":` + m.id + `,"result":"nested"}` + strings.Repeat("]", 9000) + "\n")
		s.reply(m.id, "{}")
	case "error":
		fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32001,"message":"no","data":{"a":1}}}`+"\n", m.id)
	case "ask":
		for _, method := range []string{"ping", "sampling/createMessage"} {
			fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":"q1","method":"%s"}`+"\n", method)
		}
		s.out.Flush()
		ping, _ := s.in.ReadString('\n')
		other, _ := s.in.ReadString('\n')
		s.reply(m.id, "["+strings.TrimSpace(ping)+","+strings.TrimSpace(other)+"]")
	case "flood":
		for i := range p.Count {
			fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":%d,"method":"roots/list"}`+"\n", i)
		}
		s.reply(m.id, "{}")
	case "progress":
		for range p.Count {
			var with struct {
				Meta struct{ ProgressToken json.RawMessage } `json:"_meta"`
			}
			_ = json.Unmarshal(m.params, &with)
			fmt.Fprintf(s.out, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`+"\n", with.Meta.ProgressToken)
		}
		s.reply(m.id, "{}")
	case "changed":
		s.out.WriteString(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` + "\n")
		s.reply(m.id, "{}")
	case "die":
		return false
	case "die in a reply":
		fmt.Fprintf(s.out, `{"jsonrpc":"2.0","id":%s,"result":{"unfin`, m.id)
		return false
	case "die without a line end":
		s.begin(m.id)
		s.out.WriteString("{}}")
		return false
	case "die behind a reply":
		s.reply(m.id, "{}")
		return false
	}
	return true
}

// conversation is a running Conn.
type conversation struct {
	*stdio.Conn
	t    testing.TB
	end  context.CancelFunc
	done chan struct{}
	err  error
}

// stop ends the conversation and waits for Run.
func (c *conversation) stop() error {
	c.end()
	<-c.done
	return c.err
}

func run(t testing.TB, cfg stdio.Config) *conversation {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	c := &conversation{Conn: stdio.New(cfg), t: t, end: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = c.Run(ctx)
	}()
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return c
}

// overPipes runs a conversation with serve in this process.
func overPipes(t testing.TB, cfg stdio.Config) *conversation {
	t.Helper()
	childIn, in := pipe(t)
	out, childOut := pipe(t)
	cfg.In, cfg.Out = in, out
	var served sync.WaitGroup
	served.Go(func() {
		serve(childIn, childOut)
		childIn.Close()
		childOut.Close()
	})
	t.Cleanup(served.Wait) // behind run's cleanup, which closes the pipes
	return run(t, cfg)
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// overProcess runs a conversation with this test binary as a child process.
func overProcess(t testing.TB, cfg stdio.Config) (*conversation, *exec.Cmd) {
	t.Helper()
	childIn, in := pipe(t)
	out, childOut := pipe(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"=1", "GORACE=atexit_sleep_ms=0") // else each exit takes a second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	childIn.Close()
	childOut.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	cfg.In, cfg.Out = in, out
	return run(t, cfg), cmd
}

// text is a result of params {"text":...}.
func text(n int) []byte { return []byte(`{"text":"` + string(bytes.Repeat([]byte{'x'}, n)) + `"}`) }
