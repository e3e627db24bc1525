// Package odd has MCP servers that are odd in one way each, as servers are that
// people run. Each says who is like that, or what goes wrong.
//
// The yardstick is the official TypeScript client over stdio: where that works,
// mcpfleet works, with the same tools and results. The test of this package
// runs every server under both. To see one by hand:
//
//	go run ./test/odd/server ids-as-strings
package odd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Server is one odd server. What it leaves out it does as servers should.
type Server struct {
	Name string
	Why  string
	// Official says that the official client works with it.
	Official bool
	// Fails is a part of the reason with which a replica of it fails; "" means
	// that the fleet works with it.
	Fails string
	// HealthOff runs it with health: off.
	HealthOff bool
	// Call is the tool that is called, "" for echo, and "-" for none.
	Call string

	before string                                   // written before anything is read
	start  func(*conn)                              // done before anything is read
	format func(line string, m message) string      // changes what is written for a request
	result map[string]string                        // raw results by method
	handle func(c *conn, m message) (answered bool) // takes a request
}

// message is what a server reads.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Version string                `json:"protocolVersion"`
		Cursor  string                `json:"cursor"`
		Name    string                `json:"name"`
		Args    struct{ Text string } `json:"arguments"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// conn is a running server.
type conn struct {
	s   *Server
	in  *bufio.Reader
	out io.Writer
}

// Serve is the server's program. It returns at the end of in.
func (s *Server) Serve(in io.Reader, out io.Writer) {
	c := &conn{s: s, in: bufio.NewReader(in), out: out}
	c.write(s.before)
	if s.start != nil {
		s.start(c)
	}
	for {
		m, ok := c.read()
		if !ok {
			return
		}
		if len(m.ID) == 0 || m.Method == "" || s.handle != nil && s.handle(c, m) {
			continue
		}
		c.answer(m)
	}
}

func (c *conn) read() (m message, ok bool) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return m, false
	}
	_ = json.Unmarshal([]byte(line), &m)
	return m, true
}

func (c *conn) write(text string) { _, _ = io.WriteString(c.out, text) }

// answer answers a request as servers should, but for what is odd.
func (c *conn) answer(m message) {
	result, odd := c.s.result[m.Method]
	switch {
	case odd:
		c.reply(m, result)
	case m.Method == "initialize":
		c.reply(m, initialized(m.Params.Version))
	case m.Method == "ping":
		c.reply(m, `{}`)
	case m.Method == "tools/list":
		c.reply(m, `{"tools":[`+tool("echo")+`,`+tool("other")+`]}`)
	case m.Method == "tools/call":
		c.reply(m, said(m.Params.Args.Text))
	default:
		c.say(m, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, m.ID))
	}
}

func (c *conn) reply(m message, result string) {
	c.say(m, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result))
}

// say writes what answers m.
func (c *conn) say(m message, line string) {
	if c.s.format != nil {
		c.write(c.s.format(line, m))
		return
	}
	c.write(line + "\n")
}

func initialized(version string) string { return initializedWith(version, `{"tools":{}}`) }

func initializedWith(version, capabilities string) string {
	return fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"odd","version":"1"}}`, version, capabilities)
}

func tool(name string) string {
	return fmt.Sprintf(`{"name":%s,"description":"Says text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}}`, quote(name))
}

func said(text string) string { return `{"content":[{"type":"text","text":` + quote(text) + `}]}` }

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// bytewise writes byte by byte.
type bytewise struct{ io.Writer }

func (w bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := w.Writer.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// Find returns the server of that name, nil if there is none.
func Find(name string) *Server {
	for i := range Servers {
		if Servers[i].Name == name {
			return &Servers[i]
		}
	}
	return nil
}

// reformat makes a format that ignores the request.
func reformat(change func(line string) string) func(string, message) string {
	return func(line string, _ message) string { return change(line) }
}

// beside makes a format that writes something before each answer. %s in it
// stands for the request's id.
func beside(text string) func(string, message) string {
	return func(line string, m message) string {
		return strings.ReplaceAll(text, "%s", string(m.ID)) + "\n" + line + "\n"
	}
}

func exit(code int) { os.Exit(code) }

// indent prints JSON as people like to read it.
func indent(line string) string {
	var v any
	if json.Unmarshal([]byte(line), &v) != nil || !utf8.ValidString(line) {
		return line + "\n"
	}
	b, _ := json.MarshalIndent(v, "", "  ")
	return string(b) + "\n"
}
