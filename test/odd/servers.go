package odd

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const httpMode = "seems to have started its HTTP mode; look for a flag such as --stdio"

// Servers are all odd servers.
var Servers = []Server{
	{Name: "plain", Why: "nothing is odd", Official: true},

	// Oddities around the messages.
	{Name: "crlf", Why: "Windows line ends", Official: true,
		format: reformat(func(l string) string { return l + "\r\n" })},
	{Name: "empty-lines", Why: "print() after each message", Official: true,
		format: reformat(func(l string) string { return "\n\r\n  \n" + l + "\n\n" })},
	{Name: "white-space", Why: "a JSON encoder with its own taste", Official: true,
		format: reformat(func(l string) string {
			return " \t" + strings.ReplaceAll(l, `":`, "\" :\t") + " \t\n"
		})},
	{Name: "banner", Why: "npm and many frameworks greet on stdout", Official: true,
		before: "\n> odd@1.0.0 start\n> node index.js\n\nMCP server running on stdio\n"},
	{Name: "json-logs", Why: "pino and structlog write JSON to stdout, with an id now and then", Official: true,
		format: beside(`{"level":"info","id":%s,"msg":"request"}` + "\n" + `{"level":"error","id":%s,"error":"boom","result":null}`)},
	{Name: "bom-line", Why: "PowerShell begins its output with a byte order mark", Official: true, before: "\uFEFF\n"},
	{Name: "bom", Why: "a byte order mark right before the first message", before: "\uFEFF"},
	{Name: "bom-each", Why: "a writer made anew for each message", format: reformat(func(l string) string { return "\uFEFF" + l + "\n" })},
	{Name: "byte-by-byte", Why: "unbuffered output", Official: true, start: func(c *conn) { c.out = bytewise{c.out} }},
	{Name: "slow-start", Why: "npx and uvx install first", Official: true, start: func(*conn) { time.Sleep(2 * time.Second) }},
	{Name: "stderr-flood", Why: "debug logs", Official: true, start: func(*conn) {
		for range 5000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("debug ", 40))
		}
	}},
	{Name: "no-stderr", Why: "a daemon that closes what it does not need", Official: true, start: func(*conn) { os.Stderr.Close() }},

	// Odd envelopes.
	{Name: "ids-as-strings", Why: "shell scripts with jq -r, and typed languages", Official: true,
		format: func(l string, m message) string {
			return strings.Replace(l, `"id":`+string(m.ID), `"id":"`+string(m.ID)+`"`, 1) + "\n"
		}},
	{Name: "ids-as-floats", Why: "languages whose numbers are all floating: Lua, old JSON libraries", Official: true,
		format: func(l string, m message) string {
			return strings.Replace(l, `"id":`+string(m.ID), `"id":`+string(m.ID)+`.0`, 1) + "\n"
		}},
	{Name: "ids-with-exponents", Why: "as before, in another notation", Official: true,
		format: func(l string, m message) string {
			return strings.Replace(l, `"id":`+string(m.ID), `"id":`+string(m.ID)+`e0`, 1) + "\n"
		}},
	{Name: "escaped-keys", Why: "encoders that escape more than they must", Official: true,
		format: reformat(func(l string) string {
			return strings.NewReplacer(`"jsonrpc"`, `"\u006asonrpc"`, `"id"`, `"\u0069d"`, `"result"`, `"resul\u0074"`).Replace(l) + "\n"
		})},
	{Name: "id-last", Why: "encoders that sort keys or keep them in a map", Official: true,
		format: func(l string, m message) string {
			l = strings.Replace(l, `"jsonrpc":"2.0","id":`+string(m.ID)+`,`, "", 1)
			return strings.TrimSuffix(l, "}") + `,"id":` + string(m.ID) + `,"jsonrpc":"2.0"}` + "\n"
		}},
	{Name: "duplicate-keys", Why: "encoders that append; the last counts", Official: true,
		format: reformat(func(l string) string { return `{"id":"nobody","result":{},` + l[1:] + "\n" })},
	{Name: "answers-twice", Why: "a retry that was not needed", Official: true,
		format: reformat(func(l string) string { return l + "\n" + l + "\n" })},
	{Name: "answers-to-nobody", Why: "replies of an earlier life", Official: true,
		format: beside(`{"jsonrpc":"2.0","id":987654,"result":{}}` + "\n" + `{"jsonrpc":"2.0","id":"nope","error":{"code":1,"message":"?"}}`)},
	{Name: "errors-without-id", Why: "JSON-RPC libraries that answer what they could not parse", Official: true,
		format: beside(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}` + "\n" + `{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}`)},
	{Name: "extra-members", Why: "frameworks that add a timestamp",
		format: reformat(func(l string) string { return strings.TrimSuffix(l, "}") + `,"time":1}` + "\n" })},
	{Name: "error-null", Why: "JSON-RPC 1.0 habits: both members in every answer",
		format: reformat(func(l string) string { return strings.TrimSuffix(l, "}") + `,"error":null}` + "\n" })},
	{Name: "repeats-the-method", Why: "an answer made from the request",
		format: func(l string, m message) string {
			return strings.TrimSuffix(l, "}") + `,"method":` + quote(m.Method) + "}\n"
		}},
	{Name: "omits-nothing", Why: "an encoder that writes every member of its message type",
		handle: func(c *conn, m message) bool {
			if m.Method == "tools/call" {
				c.write(`{"jsonrpc":"2.0","id":1,"method":"ping","params":null,"result":null,"error":null}` + "\n")
			}
			return false
		},
		format: reformat(func(l string) string {
			return strings.TrimSuffix(l, "}") + `,"method":null,"params":null,"error":null}` + "\n"
		})},
	{Name: "batches", Why: "protocol version 2025-03-26 had them",
		format: reformat(func(l string) string { return "[" + l + "]\n" })},
	{Name: "no-version", Why: "answers without jsonrpc", Fails: `"jsonrpc" is not "2.0"`,
		format: reformat(func(l string) string { return strings.Replace(l, `"jsonrpc":"2.0",`, "", 1) + "\n" })},

	// Unexpected messages.
	{Name: "notifies-first", Why: "logging from the first line on, before initialize is answered", Official: true,
		before: `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"starting"}}` + "\n" +
			`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}` + "\n" +
			`{"jsonrpc":"2.0","method":"notifications/unheard_of","params":{"a":[1]}}` + "\n"},
	{Name: "asks-first", Why: "asks the client before it answers, and waits for each answer", Official: true,
		handle: func(c *conn, m message) bool {
			if m.Method != "initialize" {
				return false
			}
			for i, method := range []string{"ping", "roots/list", "sampling/createMessage", "elicitation/create", "unheard/of"} {
				c.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":"q%d","method":%q,"params":{}}`+"\n", i, method))
				if m, ok := c.read(); !ok || string(m.ID) != fmt.Sprintf(`"q%d"`, i) {
					exit(1)
				}
			}
			return false
		}},
	{Name: "asks-with-our-ids", Why: "its ids are numbers from 0 on, as ours may be", Official: true,
		handle: func(c *conn, m message) bool {
			for i := range 5 {
				c.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`+"\n", i))
			}
			return false
		}},
	{Name: "asks-much", Why: "a thousand questions at once, all of which must be answered", Official: true,
		handle: func(c *conn, m message) bool {
			if m.Method != "tools/call" {
				return false
			}
			for i := range 1000 {
				c.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":"q%d","method":"ping"}`+"\n", i))
			}
			for answers := 0; answers < 1000; {
				a, ok := c.read()
				if !ok {
					exit(1)
				}
				if a.Method == "" {
					answers++
				}
			}
			return false
		}},
	{Name: "progress-unasked", Why: "progress for tokens that nobody gave", Official: true,
		format: beside(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"abc","progress":1}}` + "\n" +
			`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":123456,"progress":1}}` + "\n" +
			`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}`)},
	{Name: "list-changed-storm", Why: "a file watcher behind the tools", Official: true,
		format: func(l string, m message) string {
			if m.Method == "tools/list" {
				return l + "\n"
			}
			return strings.Repeat(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`+"\n", 50) + l + "\n"
		}},

	// Odd handshakes and lists.
	{Name: "version-2024-10-07", Why: "early SDKs answer with this draft", Official: true,
		result: map[string]string{"initialize": initialized("2024-10-07")}},
	{Name: "version-2024-11-05", Why: "the first version", Official: true,
		result: map[string]string{"initialize": initialized("2024-11-05")}},
	{Name: "version-unknown", Why: "a version that never was", Fails: `"1.0"`,
		result: map[string]string{"initialize": initialized("1.0")}},
	{Name: "no-capabilities", Why: "hand-written: lists tools and never said that it has some", Official: true,
		result: map[string]string{"initialize": initializedWith("2025-06-18", `{}`)}},
	{Name: "null-capability", Why: "an encoder that writes nil as null",
		result: map[string]string{"initialize": initializedWith("2025-06-18", `{"tools":null,"prompts":null}`)}},
	{Name: "no-server-info", Why: "hand-written", result: map[string]string{"initialize": `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}}}`}},
	{Name: "prompts-only", Why: "has no tools, and does not know tools/list", Call: "-",
		handle: func(c *conn, m message) bool {
			switch m.Method {
			case "initialize":
				c.reply(m, initializedWith(m.Params.Version, `{"prompts":{}}`))
			case "tools/list":
				c.say(m, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no handler"}}`, m.ID))
			default:
				return false
			}
			return true
		}},
	{Name: "tools-null", Why: "Go's encoder writes an empty slice as null", Call: "-",
		result: map[string]string{"tools/list": `{"tools":null}`}},
	{Name: "no-tools", Why: "an empty list", Official: true, Call: "-", result: map[string]string{"tools/list": `{"tools":[]}`}},
	{Name: "pages", Why: "one tool a page", Official: true,
		handle: func(c *conn, m message) bool {
			if m.Method != "tools/list" {
				return false
			}
			switch m.Params.Cursor {
			case "":
				c.reply(m, `{"tools":[`+tool("echo")+`],"nextCursor":"2"}`)
			case "2":
				c.reply(m, `{"tools":[],"nextCursor":"3"}`)
			default:
				c.reply(m, `{"tools":[`+tool("last")+`]}`)
			}
			return true
		}},
	{Name: "cursor-repeats", Why: "the last page names itself as the next", Official: true,
		handle: func(c *conn, m message) bool {
			if m.Method != "tools/list" {
				return false
			}
			if m.Params.Cursor == "" {
				c.reply(m, `{"tools":[`+tool("echo")+`],"nextCursor":"end"}`)
			} else {
				c.reply(m, `{"tools":[`+tool("last")+`],"nextCursor":"end"}`)
			}
			return true
		}},
	{Name: "cursor-ignored", Why: "offers a cursor and does not read it", Official: true,
		result: map[string]string{"tools/list": `{"tools":[` + tool("echo") + `],"nextCursor":"more"}`}},
	{Name: "cursor-empty", Why: "an encoder without omitempty", Official: true,
		result: map[string]string{"tools/list": `{"tools":[` + tool("echo") + `],"nextCursor":""}`}},
	{Name: "odd-names", Why: "names are free text", Official: true, Call: "grüße / .echo",
		result: map[string]string{"tools/list": `{"tools":[` + tool("echo") + "," + tool("grüße / .echo") + "," + tool("a__b") + "," +
			tool("UPPER-case_1") + "," + tool(strings.Repeat("long", 64)) + `]}`}},
	{Name: "rich-tools", Why: "every member that the schema of a tool has", Official: true,
		result: map[string]string{"tools/list": `{"_meta":{"x":1},"tools":[{"name":"echo","title":"Echo","description":"","inputSchema":{"type":"object","$defs":{"a":{"enum":[1,2.50]}},"additionalProperties":false},` +
			`"annotations":{"title":"E","readOnlyHint":true,"openWorldHint":false},"icons":[{"src":"data:,x"}],"execution":{"taskSupport":"optional"},"_meta":{"a/b":[null]}}]}`}},

	// Odd results.
	{Name: "invalid-utf8", Why: "a file name in Latin-1, or a text cut in the middle of a character", Official: true,
		result: map[string]string{"tools/call": `{"content":[{"type":"text","text":"caf` + "\xe9 \xe2\x82 \xf0\x9f\x98" + `"}]}`}},
	{Name: "line-separators", Why: "U+2028, U+2029 and NEL end lines in some languages, not here", Official: true,
		result: map[string]string{"tools/call": "{\"content\":[{\"type\":\"text\",\"text\":\"a\u2028b\u2029c\u0085d\"}]}"}},
	{Name: "lone-surrogate", Why: "JavaScript's JSON.stringify before it was well-formed", Official: true,
		result: map[string]string{"tools/call": `{"content":[{"type":"text","text":"\ud83d \u0000 \\ud83d"}]}`}},
	{Name: "large-result", Why: "a file, as text", Official: true, result: map[string]string{"tools/call": said(strings.Repeat("0123456789abcdef", 1<<16))}},
	{Name: "deep-result", Why: "a tree", Official: true,
		result: map[string]string{"tools/call": `{"content":[],"structuredContent":{"tree":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}}`}},
	{Name: "numbers", Why: "large, small and exact ones", Official: true,
		result: map[string]string{"tools/call": `{"content":[],"structuredContent":{"a":12345678901234567890,"b":1e-300,"c":-0.0,"d":1.10}}`}},
	{Name: "no-content", Why: "a result with a member of its own", Official: true,
		result: map[string]string{"tools/call": `{"answer":42,"_meta":{"took":1}}`}},
	{Name: "is-error", Why: "the tool failed", Official: true,
		result: map[string]string{"tools/call": `{"content":[{"type":"text","text":"no"}],"isError":true}`}},
	{Name: "ends-after-its-answer", Why: "a one-shot script", Official: true,
		handle: func(c *conn, m message) bool {
			if m.Method == "tools/call" {
				c.reply(m, said(m.Params.Args.Text))
				exit(0)
			}
			return false
		}},

	// Odd answers to ping.
	{Name: "ignores-ping", Why: "answers what it knows and is silent otherwise", Official: true,
		handle: func(_ *conn, m message) bool { return m.Method == "ping" }},
	{Name: "bare-ping", Why: "an encoder that omits empty results", Official: true,
		format: func(l string, m message) string {
			if m.Method == "ping" {
				return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s}`+"\n", m.ID)
			}
			return l + "\n"
		}},
	{Name: "refuses-ping", Why: "does not know it", Official: true,
		handle: func(c *conn, m message) bool {
			if m.Method == "ping" {
				c.say(m, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, m.ID))
			}
			return m.Method == "ping"
		}},
	{Name: "dies-of-ping", Why: "an unknown method is a panic", Official: true, HealthOff: true,
		handle: func(_ *conn, m message) bool {
			if m.Method == "ping" {
				exit(1)
			}
			return false
		}},

	// Servers that cannot work. The reason must name the cause.
	{Name: "http-mode", Why: "images whose default is HTTP", Fails: httpMode,
		before: "INFO:     Uvicorn running on http://0.0.0.0:8000 (Press CTRL+C to quit)\n", handle: func(*conn, message) bool { return true }},
	{Name: "http-mode-on-stderr", Why: "as before, where it belongs", Fails: httpMode,
		start:  func(*conn) { fmt.Fprintln(os.Stderr, "MCP server listening on port 3000") },
		handle: func(*conn, message) bool { return true }},
	{Name: "content-length", Why: "the framing of language servers", Fails: "Content-Length",
		format: reformat(func(l string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(l), l) })},
	{Name: "indented", Why: "json.MarshalIndent, JSON.stringify(x, null, 2)", Fails: "prints its JSON over several lines", format: reformat(indent)},
	{Name: "wrong-ids", Why: "counts its answers itself", Fails: "requests that were never sent, id 1",
		format: func(l string, m message) string {
			return strings.Replace(l, `"id":`+string(m.ID), `"id":1`+string(m.ID)+"000", 1) + "\n"
		}},
	{Name: "prompt", Why: "a prompt before each line", Fails: "on its stdout",
		format: reformat(func(l string) string { return "> " + l + "\n" })},
	{Name: "echo", Why: "docker run -t: the terminal repeats what it is sent", Fails: "repeats what it is sent",
		start: func(c *conn) { _, _ = io.Copy(c.out, c.in) }},
}
