// Package odd has MCP servers that are odd in one respect each, like servers that
// people run. Each one says which servers do that, or what goes wrong.
//
// The reference is the official TypeScript client over stdio. If it works with a
// server, mcpfleet must work, too, with the same tools and results. The test of this
// package runs every server under both. To run one by hand:
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

// Server is one odd server. Its zero fields mean correct behaviour.
type Server struct {
	Name string
	Why  string
	// Official is set if the official client works with it.
	Official bool
	// Fails is a part of the reason with which a replica of it fails. It is "" if
	// the fleet works with it.
	Fails string
	// HealthOff runs it with health: off.
	HealthOff bool
	// Call is the tool to call: "" for echo, and "-" for no call.
	Call string

	before string                                   // written before anything is read
	start  func(*conn)                              // done before anything is read
	format func(line string, m message) string      // changes what is written for a request
	result map[string]string                        // raw results by method
	handle func(c *conn, m message) (answered bool) // handles a request
}

// message is a message to the server.
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

// Serve runs the server. It returns at the end of in.
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

// answer answers a request correctly, except for the odd part.
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

// say writes the answer to m.
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

// Find returns the server with this name, or nil if there is none.
func Find(name string) *Server {
	for i := range Servers {
		if Servers[i].Name == name {
			return &Servers[i]
		}
	}
	return nil
}

// reformat returns a format that ignores the request.
func reformat(change func(line string) string) func(string, message) string {
	return func(line string, _ message) string { return change(line) }
}

// beside returns a format that writes text before each answer. %s in the text stands
// for the request's id.
func beside(text string) func(string, message) string {
	return func(line string, m message) string {
		return strings.ReplaceAll(text, "%s", string(m.ID)) + "\n" + line + "\n"
	}
}

func exit(code int) { os.Exit(code) }

// indent indents JSON.
func indent(line string) string {
	var v any
	if json.Unmarshal([]byte(line), &v) != nil || !utf8.ValidString(line) {
		return line + "\n"
	}
	b, _ := json.MarshalIndent(v, "", "  ")
	return string(b) + "\n"
}
