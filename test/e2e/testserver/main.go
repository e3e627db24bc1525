// Command testserver is an MCP server over stdin and stdout. Its tools misbehave
// like real servers, or show tests what arrives: they return the raw line that was
// read, report the messages so far, record executed calls in a journal, and stop
// reading. It uses only encoding/json, so that it shares no bugs with the code
// under test.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	exit := flag.Int("exit", -1, "end at once with this code, after a word on stderr")
	journal := flag.String("journal", "", "file that the tool count adds a line to, once for each execution")
	chatty := flag.Bool("chatty", false, "write a line to stderr for each message")
	dies := flag.Duration("dies", 0, "end with code 4 after this time; 0: never")
	bad := flag.Bool("iserror", false, "answer every call of slow with isError")
	without := flag.String("without", "", "a tool that is not listed")
	strict := flag.Bool("strict", false, "end with code 5 if the first message is not initialize")
	_ = flag.String("version", "", "changes nothing: for another revision of the same server")
	flag.Parse()
	if *exit >= 0 {
		fmt.Fprintln(os.Stderr, "testserver: cannot start: the license has expired")
		os.Exit(*exit)
	}
	fmt.Fprintln(os.Stderr, "testserver: serving as process", os.Getpid())
	if *dies > 0 {
		time.AfterFunc(*dies, func() {
			fmt.Fprintln(os.Stderr, "testserver: dying, as told")
			os.Exit(4)
		})
	}
	s := &server{strict: *strict, bad: *bad, without: *without, in: bufio.NewReaderSize(os.Stdin, 256<<10), out: bufio.NewWriterSize(os.Stdout, 256<<10), journal: *journal, chatty: *chatty, seen: map[string]int{}}
	if err := s.serve(); !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "testserver:", err)
		os.Exit(1)
	}
}

type server struct {
	in      *bufio.Reader
	journal string
	chatty  bool
	bad     bool
	strict  bool
	without string
	seen    map[string]int // messages by method, and calls by tool; owned by the reading goroutine

	mu  sync.Mutex
	out *bufio.Writer
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string    `json:"name"`
		Arguments arguments `json:"arguments"`
	} `json:"params"`
}

// arguments of all tools.
type arguments struct {
	Text  json.RawMessage `json:"text"`
	ID    any             `json:"id"`
	Bytes int             `json:"bytes"`
	MS    int             `json:"ms"`
}

const tools = `{"tools":[
{"name":"echo","description":"Returns text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]},"annotations":{"readOnlyHint":true}},
{"name":"count","description":"Leaves a line with the id in the journal.","inputSchema":{"type":"object","properties":{"id":{"type":"string"},"ms":{"type":"integer"}},"required":["id"]}},
{"name":"big","description":"Returns so many bytes.","inputSchema":{"type":"object","properties":{"bytes":{"type":"integer"}},"required":["bytes"]},"annotations":{"readOnlyHint":true}},
{"name":"slow","description":"Answers later, and others meanwhile.","inputSchema":{"type":"object","properties":{"ms":{"type":"integer"}},"required":["ms"]},"annotations":{"readOnlyHint":true}},
{"name":"hang","description":"Stops reading, for ever.","inputSchema":{"type":"object"}},
{"name":"noise","description":"Writes what is no message around its answer.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},
{"name":"raw","description":"Returns the line of this call as it was read.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},
{"name":"seen","description":"Returns how many messages of which kind came.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}},
{"name":"crash","description":"Ends the process.","inputSchema":{"type":"object"}},
{"name":"poison","description":"Ends the process, and says that it is safe to repeat.","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}
]}`

// serve returns an error, which is io.EOF when stdin has ended.
func (s *server) serve() error {
	for {
		line, err := s.in.ReadBytes('\n')
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			// A test that looks for forged messages must find this one, too.
			s.seen["invalid: "+string(line)]++
			fmt.Fprintf(os.Stderr, "testserver: %v in %q\n", err, line)
			continue
		}
		if s.strict && len(s.seen) == 0 && m.Method != "initialize" {
			fmt.Fprintln(os.Stderr, "testserver: the first message is", m.Method)
			os.Exit(5)
		}
		s.seen[m.Method]++
		if s.chatty {
			fmt.Fprintln(os.Stderr, "testserver: got", m.Method, strings.Repeat("blah ", 40))
		}
		if err := s.handle(&m, line); err != nil {
			return err
		}
	}
}

// tools returns the result of tools/list on one line.
func (s *server) tools() string {
	var kept []string
	for line := range strings.Lines(tools) {
		if s.without == "" || !strings.Contains(line, `"name":"`+s.without+`"`) {
			kept = append(kept, strings.TrimSuffix(line, "\n"))
		}
	}
	return strings.ReplaceAll(strings.Join(kept, ""), "},]", "}]")
}

func (s *server) handle(m *message, line []byte) error {
	if m.ID == nil {
		return nil
	}
	switch m.Method {
	case "initialize":
		return s.reply(m, `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"testserver","version":"1"}}`)
	case "tools/list":
		return s.reply(m, s.tools())
	case "ping":
		return s.reply(m, `{}`)
	case "tools/call":
		s.seen["tool "+m.Params.Name]++
		return s.call(m, line)
	}
	return s.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no method %s"}}`, m.ID, m.Method))
}

func (s *server) call(m *message, line []byte) error {
	args := m.Params.Arguments
	switch m.Params.Name {
	case "echo":
		if args.Text == nil {
			return s.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no text","data":{"field":"text"}}}`, m.ID))
		}
		return s.reply(m, `{"content":[{"type":"text","text":`+string(args.Text)+`}]}`)
	case "count":
		// One write to a file that is open for appending. So lines of several
		// processes do not mix.
		f, err := os.OpenFile(s.journal, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "%v\n", args.ID)
		if err := f.Close(); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		s.later(args.MS, m, text(fmt.Sprint("counted ", args.ID)))
	case "big":
		return s.reply(m, `{"content":[{"type":"text","text":"`+strings.Repeat("x", args.Bytes)+`"}]}`)
	case "slow":
		if s.bad {
			return s.reply(m, `{"content":[{"type":"text","text":"the key has expired"}],"isError":true}`)
		}
		s.later(args.MS, m, text("at last"))
	case "hang":
		fmt.Fprintln(os.Stderr, "testserver: reading no more")
		time.Sleep(24 * time.Hour) // not for ever, or the runtime would report a deadlock
	case "noise":
		for _, n := range []string{"Listening on stdio...", `{"level":"info"}`, "\x00\xff\xfe", `{"jsonrpc":"2.0","id":"nobody's","result":{}}`, "", "[]", `"` + strings.Repeat("n", 1<<20)} {
			if err := s.write(n); err != nil {
				return err
			}
		}
		return s.reply(m, text("in spite of all"))
	case "raw":
		return s.reply(m, text(string(line)))
	case "seen":
		b, err := json.Marshal(s.seen)
		if err != nil {
			return err
		}
		return s.reply(m, text(string(b)))
	case "crash", "poison":
		fmt.Fprintln(os.Stderr, "testserver: crashing, as asked")
		os.Exit(3)
	default:
		return s.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"no tool %s"}}`, m.ID, m.Params.Name))
	}
	return nil
}

func text(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // encoding a string never fails
	}
	return `{"content":[{"type":"text","text":` + string(b) + `}]}`
}

// later replies after a delay without blocking others.
func (s *server) later(ms int, m *message, result string) {
	time.AfterFunc(time.Duration(ms)*time.Millisecond, func() {
		_ = s.send(`{"jsonrpc":"2.0","id":`+string(m.ID)+`,"result":`+result+`}`, true) // the reader ends soon without a stdout
	})
}

// reply and write are for the reading goroutine: while more requests wait to
// be read, their replies share a write.
func (s *server) reply(m *message, result string) error {
	return s.write(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":` + result + `}`)
}

func (s *server) write(line string) error {
	return s.send(line, s.in.Buffered() == 0)
}

func (s *server) send(line string, flush bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.out.WriteString(line + "\n")
	if err == nil && flush {
		err = s.out.Flush()
	}
	return err
}
