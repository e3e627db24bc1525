package agenttest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Echo is a small MCP server of the legacy era. Its tools:
//
//	echo   {text}        the text (readOnlyHint)
//	big    {bytes}       a text of that many bytes (readOnlyHint)
//	slow   {ms}          answers then; ends early when cancelled; reports progress twice if asked
//	hang   {}            never answers, not even when cancelled; pings are answered
//	freeze {ms}          reads nothing for that long, for ever without ms; then answers
//	crash  {code}        writes a line to stderr and exits
//	poison {code}        the same, and says that it is safe to repeat (readOnlyHint)
//	count  {key}         counts on Runtime.Count and answers the number; not to be repeated
//	whoami {}            the replica's id (readOnlyHint)
//	fail   {text}        a result with isError
//	error  {}            a JSON-RPC error
//	bad    {}            a reply that is no valid JSON
//	bare   {}            a reply with neither result nor error; it is not listed
//	noise  {text}        a line on stdout that is no JSON-RPC, then the answer
//	stderr {text, lines} writes to stderr, then answers
//	add    {name}        adds a resource of that name, see Lists; it is not listed
//	grow   {name}        adds a tool of that name, which answers the replica's id, and says that the list changed
//
// The zero value is a well-behaved server.
type Echo struct {
	// NoPing answers ping with "method not found".
	NoPing bool
	// IgnorePing never answers it, BarePing answers with neither result nor error.
	IgnorePing, BarePing bool
	// DieOfPing ends it with exit code 2.
	DieOfPing bool
	// Era is what it speaks. DieOfDiscover ends it with exit code 4 when it gets
	// server/discover, IgnoreDiscover never answers that.
	Era                           Era
	DieOfDiscover, IgnoreDiscover bool
	// Lists makes it list resources, their templates unless NoTemplates is set, and
	// prompts, each after SlowLists. Its tool add {name} adds a resource.
	Lists, NoTemplates bool
	SlowLists          time.Duration
	// Slow is how long it waits before it reads anything.
	Slow time.Duration
	// IgnoreEOF keeps it running when stdin ends, IgnoreTerm when it is told
	// to end; KILL always works.
	IgnoreEOF, IgnoreTerm bool
	// Silent makes it read and never answer anything.
	Silent bool
	// Banner is written to stdout, Complaint to stderr, before anything else.
	Banner, Complaint string
	// ExitAtOnce ends it after that, with this code, when it is not 0.
	ExitAtOnce int
	// Version is what it answers to initialize; "" repeats what was offered.
	Version string
	// PageSize cuts tools/list into pages; 0 means one page.
	PageSize int
}

// message is what Echo reads.
type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Version string `json:"protocolVersion"`
		Cursor  string `json:"cursor"`
		Name    string `json:"name"`
		Args    args   `json:"arguments"`
		Meta    struct {
			Token json.RawMessage `json:"progressToken"`
			modernMeta
		} `json:"_meta"`
		RequestID json.RawMessage `json:"requestId"`
	} `json:"params"`
}

type args struct {
	Text  string `json:"text"`
	Key   string `json:"key"`
	Name  string `json:"name"`
	MS    int    `json:"ms"`
	Bytes int    `json:"bytes"`
	Lines int    `json:"lines"`
	Code  int    `json:"code"`
}

// echoRun is one running Echo.
type echoRun struct {
	Echo
	*Stdio
	ctx  context.Context // the program's life
	out  chan struct{}   // a lock that a synctest bubble sees through
	exit chan int
	work sync.WaitGroup

	settled, modern bool // of the era; only read uses them

	mu        sync.Mutex
	tools     []string // raw
	resources []string // that were added, raw
	running   map[string]context.CancelFunc
}

// Serve is Echo's program: a Server.
func (e Echo) Serve(ctx context.Context, s *Stdio) int {
	ctx, stop := context.WithCancel(ctx)
	r := &echoRun{
		Echo: e, Stdio: s, ctx: ctx,
		out: make(chan struct{}, 1), exit: make(chan int, 1),
		tools: echoTools(), running: map[string]context.CancelFunc{},
	}
	defer r.work.Wait()
	defer r.end(stop)
	if e.Complaint != "" {
		fmt.Fprintln(s.Err, e.Complaint)
	}
	if e.Banner != "" {
		fmt.Fprintln(s.Out, e.Banner)
	}
	if e.ExitAtOnce != 0 {
		return e.ExitAtOnce
	}
	eof := make(chan struct{})
	r.work.Go(func() {
		r.read()
		close(eof)
	})
	term := s.Term
	if e.IgnoreTerm {
		term = nil
	}
	for {
		select {
		case <-ctx.Done():
			return 0
		case code := <-r.exit:
			return code
		case <-term:
			return 0
		case <-eof:
			if !e.IgnoreEOF {
				return 0
			}
			eof = nil
		}
	}
}

// end unblocks whatever the program still reads or writes.
func (r *echoRun) end(stop func()) {
	stop()
	if c, ok := r.In.(io.Closer); ok {
		_ = c.Close()
	}
	r.CloseOut()
}

func (r *echoRun) read() {
	if r.Slow > 0 && !r.sleep(r.ctx, r.Slow) {
		return
	}
	in := bufio.NewReader(r.In)
	for {
		line, err := in.ReadBytes('\n')
		var m message
		if len(line) > 0 && json.Unmarshal(line, &m) == nil && !r.Silent {
			r.handle(&m)
		}
		if err != nil {
			return
		}
	}
}

func (r *echoRun) handle(m *message) {
	if !r.settle(m) || r.lists(m) {
		return
	}
	switch m.Method {
	case "initialize":
		version := m.Params.Version
		if r.Version != "" {
			version = r.Version
		}
		r.answer(m.ID, fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"echo","version":"1"}}`, version, r.capabilities()))
	case "ping":
		r.Runtime.count("pings of " + string(r.Launch.Replica))
		switch {
		case r.DieOfPing:
			r.exit <- 2
			<-r.ctx.Done()
		case r.NoPing:
			r.refuse(m.ID, -32601, "method not found")
		case r.BarePing:
			r.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s}`, m.ID))
		case !r.IgnorePing:
			r.answer(m.ID, `{}`)
		}
	case "tools/list":
		r.list(m)
	case "tools/call":
		r.call(m)
	case "notifications/cancelled":
		r.mu.Lock()
		cancel := r.running[string(m.Params.RequestID)]
		r.mu.Unlock()
		if cancel != nil {
			cancel()
		}
	default:
		if m.ID != nil {
			r.refuse(m.ID, -32601, "method not found")
		}
	}
}

func (r *echoRun) list(m *message) {
	r.mu.Lock()
	all := r.tools
	r.mu.Unlock()
	from := 0
	if m.Params.Cursor != "" {
		if _, err := fmt.Sscanf(m.Params.Cursor, "at-%d", &from); err != nil || from > len(all) {
			r.refuse(m.ID, -32602, "bad cursor")
			return
		}
	}
	to, next := len(all), ""
	if r.PageSize > 0 && from+r.PageSize < to {
		to = from + r.PageSize
		next = fmt.Sprintf(`,"nextCursor":"at-%d"`, to)
	}
	r.answer(m.ID, `{"tools":[`+strings.Join(all[from:to], ",")+`]`+next+r.hint()+`}`)
}

func (r *echoRun) call(m *message) {
	a := m.Params.Args
	switch m.Params.Name {
	case "echo":
		r.text(m.ID, a.Text)
	case "big":
		r.text(m.ID, strings.Repeat("x", a.Bytes))
	case "slow":
		r.slow(m)
	case "hang":
	case "freeze":
		if a.MS == 0 {
			<-r.ctx.Done()
			return
		}
		if r.sleep(r.ctx, time.Duration(a.MS)*time.Millisecond) {
			r.text(m.ID, "thawed")
		}
	case "crash", "poison":
		fmt.Fprintln(r.Err, "crashing as told")
		select {
		case r.exit <- a.Code:
		default: // it is ending already, and more such calls were in the pipe
		}
		<-r.ctx.Done()
	case "count":
		r.text(m.ID, fmt.Sprint(r.Runtime.count(a.Key)))
	case "whoami":
		r.text(m.ID, string(r.Launch.Replica))
	case "fail":
		r.answer(m.ID, fmt.Sprintf(`{"content":[{"type":"text","text":%s}],"isError":true}`, quote(a.Text)))
	case "error":
		r.refuse(m.ID, -32000, "as you wished")
	case "bad":
		r.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"content":[}}`, m.ID))
	case "bare":
		r.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s}`, m.ID))
	case "noise":
		r.write("this is no JSON-RPC")
		r.text(m.ID, a.Text)
	case "stderr":
		for range max(a.Lines, 1) {
			fmt.Fprintln(r.Err, a.Text)
		}
		r.text(m.ID, "")
	case "grow":
		r.mu.Lock()
		r.tools = append(r.tools[:len(r.tools):len(r.tools)], fmt.Sprintf(`{"name":%s,"inputSchema":{"type":"object"}}`, quote(a.Name)))
		r.mu.Unlock()
		r.text(m.ID, "")
		r.write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	case "add":
		r.text(m.ID, "")
		r.addResource(a.Name)
	default:
		if !r.grown(m.Params.Name) {
			r.refuse(m.ID, -32602, "unknown tool "+m.Params.Name)
			return
		}
		r.text(m.ID, string(r.Launch.Replica))
	}
}

// grown reports whether the tool was added by grow.
func (r *echoRun) grown(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.tools, func(raw string) bool { return strings.HasPrefix(raw, `{"name":`+quote(name)+",") })
}

func (r *echoRun) slow(m *message) {
	ctx, cancel := context.WithCancel(r.ctx)
	id := string(m.ID)
	r.mu.Lock()
	r.running[id] = cancel
	r.mu.Unlock()
	token, third := string(m.Params.Meta.Token), time.Duration(m.Params.Args.MS)*time.Millisecond/3
	r.work.Go(func() {
		defer cancel()
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.running, id)
		}()
		for i := range 3 {
			if !r.sleep(ctx, third) {
				return
			}
			if token != "" && i < 2 {
				r.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d,"total":3}}`, token, i+1))
			}
		}
		r.text(m.ID, "slept")
	})
}

func (r *echoRun) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *echoRun) text(id json.RawMessage, text string) {
	r.answer(id, `{"content":[{"type":"text","text":`+quote(text)+`}]}`)
}

func (r *echoRun) answer(id json.RawMessage, result string) {
	r.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result))
}

func (r *echoRun) refuse(id json.RawMessage, code int, message string) {
	r.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%s}}`, id, code, quote(message)))
}

// write writes one line. A failure means that the reader is gone, and the end
// of stdin follows.
func (r *echoRun) write(line string) {
	r.out <- struct{}{}
	defer func() { <-r.out }()
	_, _ = io.WriteString(r.Out, line+"\n")
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(errors.New("agenttest: a string does not encode"))
	}
	return string(b)
}

func echoTools() []string {
	tool := func(name, more string) string {
		return fmt.Sprintf(`{"name":%q,"description":"Test tool %s.","inputSchema":{"type":"object"}%s}`, name, name, more)
	}
	const safe = `,"annotations":{"readOnlyHint":true}`
	return []string{
		tool("echo", safe), tool("big", safe), tool("slow", ""), tool("hang", ""), tool("freeze", ""),
		tool("crash", ""), tool("poison", safe), tool("count", ""), tool("whoami", safe), tool("fail", ""), tool("error", ""),
		tool("bad", ""), tool("noise", ""), tool("stderr", ""), tool("grow", ""),
	}
}
