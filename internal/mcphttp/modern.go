package mcphttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// serveModern answers a message of a client of the modern era. It needs no session, and
// the client cancels a request by leaving.
func (f *Front) serveModern(w *web.Response, r *http.Request, m *message, a accepts) error {
	f.metrics.message(eraModern, m)
	switch m.kind {
	case mcp.KindRequest:
	case mcp.KindNotification:
		return accepted(w) // the modern era has none that would matter here
	default:
		return failuref(http.StatusBadRequest, mcp.CodeInvalidRequest, "Invalid request: a modern client sends no responses")
	}
	if version := r.Header[headerVersion]; m.meta.Version == nil && !mcp.IsModern(version[0]) {
		return withID(&failure{http.StatusBadRequest, *mcp.UnsupportedVersion(version[0], mcp.ModernVersions())}, m.id)
	}
	if fault := m.meta.Check(); fault != nil {
		return withID(&failure{http.StatusBadRequest, *fault}, m.id)
	}
	if fault := mcp.CheckHeaders(headersOf(r), m.method, m.about, &m.meta); fault != nil {
		return withID(&failure{http.StatusBadRequest, *fault}, m.id)
	}
	if m.method == mcp.MethodListen {
		return withID(f.listen(w, r, m, a), m.id)
	}
	p := newReply(w, r, m.id, a)
	p.wait = patient
	return p.finish(modernOutcome(m.method, f.answerModern(p, m)))
}

// headersOf returns the headers of a request. The one whose usual name is not the canonical
// one is looked up without a copy of its name.
func headersOf(r *http.Request) mcp.Headers {
	return func(name string) []string {
		if name == mcp.HeaderVersion {
			return r.Header[headerVersion]
		}
		return r.Header.Values(name)
	}
}

// answerModern answers a request of a modern client.
func (f *Front) answerModern(p *reply, m *message) outcome {
	q, err := newQuery(p.r)
	if err != nil {
		return outcome{err: err}
	}
	ctx := p.r.Context()
	if m.method == mcp.MethodDiscover || isList(m.method) || mcp.LegacyOnly(m.method) {
		view, err := f.modernView(ctx, q, m)
		if err != nil {
			return outcome{err: err}
		}
		return f.answerModernHere(view, m)
	}
	var info *fleet.ViewInfo
	all, err := f.destinations(ctx, q, p, m, func(view View) error {
		info = view.Info()
		return checkVersion(info, m)
	})
	if err == nil {
		all, err = withoutOpenings(all, m, func() []fleet.ServerName { return nil })
	}
	if err != nil {
		return outcome{err: err}
	}
	return ask(all, func(dest fleet.Destination) outcome { return f.sendModern(ctx, p, q, m, dest, info) })
}

// sendModern sends a request of a modern client to a destination.
func (f *Front) sendModern(ctx context.Context, p *reply, q *query, m *message, dest fleet.Destination, info *fleet.ViewInfo) outcome {
	if dest.Schema != nil {
		if err := checkParamHeaders(p.r, dest, m); err != nil {
			return outcome{err: err}
		}
	}
	if dest.PerSession && !dest.Modern {
		return f.sendAlone(ctx, p, q, m, dest, info)
	}
	c := fleet.Call{Logs: dest.Modern && m.meta.LogLevel != nil}
	if m.meta.ProgressToken != nil || c.Logs {
		c.Notification = func(method string, params []byte) {
			if !p.notify(notification(method, params)) {
				f.metrics.drop(droppedSlow)
			}
		}
	}
	if dest.Modern {
		return f.forward(ctx, p, q, dest, m, m.params, c)
	}
	if m.parts.Retries() && mcp.MayRequireInput(m.method) {
		switch input, err := mcp.ParseInputResponses(m.params); {
		case err != nil:
			return outcome{err: invalidParams("Invalid params: %v", err)}
		case input.State != nil: // such a server gives none
			return outcome{err: errState}
		}
	}
	params, hasMeta, err := m.parts.ToLegacy()
	if err != nil {
		return outcome{err: invalidParams("Invalid params: %v", err)}
	}
	c.NoMeta = !hasMeta
	out := f.forward(ctx, p, q, dest, m, params, c)
	if asks, ok := f.askVisit(out, info, m); ok {
		return asks
	}
	return f.completed(out, info, m)
}

// answerModernHere answers a request that needs no replica.
func (f *Front) answerModernHere(view View, m *message) outcome {
	info := view.Info()
	switch {
	case m.method == mcp.MethodDiscover:
		return outcome{result: (&mcp.DiscoverResult{
			Versions: versionsOf(info), Capabilities: modernCapabilities(info), ServerInfo: f.serverInfo(info), Instructions: info.Instructions,
			Hint: mcp.CacheHint{TTL: info.Hint.TTLMs, Scope: scopeText(info.Hint.Scope)},
		}).Append(nil)}
	case isList(m.method):
		list, err := listOf(view, m, true)
		if err != nil {
			return outcome{err: err}
		}
		return outcome{result: renderModernList(m.method, list, f.serverInfo(info))}
	}
	return outcome{err: unknownMethod(m.method)}
}

// modernView returns what the endpoint offers to a request of that version.
func (f *Front) modernView(ctx context.Context, q *query, m *message) (View, error) {
	view, err := f.view(ctx, q)
	if err == nil {
		err = checkVersion(view.Info(), m)
	}
	return view, err
}

// checkVersion returns an error if an endpoint does not offer the version of a request.
func checkVersion(info *fleet.ViewInfo, m *message) error {
	version, versions := m.meta.ProtocolVersion(), versionsOf(info)
	for _, v := range versions {
		if v == version && mcp.IsModern(v) {
			return nil
		}
	}
	return &failure{http.StatusBadRequest, *mcp.UnsupportedVersion(version, versions)}
}

// versionsOf returns all versions of an endpoint, of both eras.
func versionsOf(info *fleet.ViewInfo) []string {
	versions := info.Versions
	if len(versions) == 0 {
		versions = mcp.ModernVersions()
	}
	return versions
}

// modernCapabilities returns the capabilities of an endpoint as a modern client sees
// them.
func modernCapabilities(info *fleet.ViewInfo) []byte {
	switch {
	case info.Modern:
		return info.Capabilities
	case info.ServerInfo == nil: // merged from servers of both eras
		return mcp.WithoutCoreTasks(info.Capabilities)
	}
	return mcp.CapabilitiesToModern(info.Capabilities)
}

// checkParamHeaders returns an error if a call and its headers differ in arguments that
// the tool wants to see in headers, too.
func checkParamHeaders(r *http.Request, dest fleet.Destination, m *message) error {
	wanted, err := mcp.ParamHeaders(dest.Schema)
	if err != nil {
		return nil // the tool is not listed, and nobody is told to send headers
	}
	found, err := mcp.Fields(m.params, "arguments")
	if err != nil {
		return invalidParams("Invalid params: %v", err)
	}
	if fault := mcp.CheckParamHeaders(r.Header.Values, wanted, found[0]); fault != nil {
		return &failure{http.StatusBadRequest, *fault}
	}
	return nil
}

// modernOutcome gives a refusal of the server the status of its code, and an error of
// ours the code of the modern era.
//
// What the server offers, such as a tool, can be called. If it answers then that a method
// is not found, it does not mean the client's. Clients take 404 for the end of more than
// the call: the official Go SDK 1.7 gives up its connection.
func modernOutcome(method string, out outcome) outcome {
	if out.err == nil && out.refusal == nil {
		return out
	}
	if errors.Is(out.err, fleet.ErrUnknownResource) {
		out.err = invalidParams("%v", out.err)
	}
	var own *failure
	if errors.As(out.err, &own) && own.err.Code == mcp.CodeMethodNotFound {
		out.err = &failure{http.StatusNotFound, own.err}
	}
	if out.refusal == nil {
		return out
	}
	switch mcp.ParseError(out.refusal).Code {
	case mcp.CodeMethodNotFound:
		if !isOffered(method) {
			out.status = http.StatusNotFound
		}
	case mcp.CodeHeaderMismatch, mcp.CodeMissingCapability, mcp.CodeUnsupportedVersion:
		out.status = http.StatusBadRequest
	}
	return out
}

// isOffered reports whether requests of a method are for something that a server offers.
func isOffered(method string) bool {
	return method == mcp.MethodToolsCall || method == mcp.MethodPromptsGet || method == mcp.MethodResourcesRead
}

// askVisit turns the refusal of a legacy server that says which URLs the user must visit
// first into a result that asks for it. The retry needs no state, as the server itself
// knows whether the user was there. Who has declined is not asked again.
func (f *Front) askVisit(out outcome, info *fleet.ViewInfo, m *message) (_ outcome, ok bool) {
	if out.refusal == nil || !mcp.MayRequireInput(m.method) {
		return outcome{}, false
	}
	requests, ok := mcp.RequiredURLs(out.refusal, 1)
	if !ok {
		return outcome{}, false
	}
	input, err := mcp.ParseInputResponses(m.params)
	switch {
	case err != nil:
		return outcome{err: invalidParams("Invalid params: %v", err)}, true
	case input.Declined():
		return outcome{}, false
	case !mcp.Declares(m.meta.Capabilities, mcp.CapabilityElicitURL):
		return outcome{refusal: mcp.MissingCapability([]mcp.Capability{mcp.CapabilityElicitURL}).Append(nil)}, true
	}
	result := (&mcp.InputRequired{Requests: requests}).Append(nil)
	if told, err := mcp.ResultToModern(result, mcp.Completion{ServerInfo: f.serverInfo(info)}); err == nil {
		result = told
	}
	return outcome{result: result}, true
}

// completed adds to the answer of a legacy server what a modern client expects in it.
func (f *Front) completed(out outcome, info *fleet.ViewInfo, m *message) outcome {
	c := mcp.Completion{ServerInfo: f.serverInfo(info)}
	if mcp.IsCacheable(m.method) {
		c.Hint = &mcp.CacheHint{Scope: mcp.ScopePrivate}
	}
	switch {
	case out.err != nil:
	case out.refusal != nil:
		out.refusal = mcp.ErrorToModern(out.refusal)
	case out.stream != nil:
		out = completedStream(out, c)
	default:
		lead, rest, err := mcp.SplitResultToModern(out.result, c)
		if err != nil {
			break // a result that is no object stays as it is
		}
		out.lead, out.result = lead, rest
	}
	return out
}

// completedStream adds to a large result what does not need a look at all of it. The
// server's description is left out: the result may have a _meta of its own.
func completedStream(out outcome, c mcp.Completion) outcome {
	var first [1]byte
	if n, err := io.ReadFull(out.stream, first[:]); n == 0 || first[0] != '{' {
		out.stream = joined(first[:n], out.stream, err)
		return out
	}
	c.ServerInfo = nil
	head, err := mcp.ResultToModern([]byte("{}"), c)
	if err != nil {
		head = []byte("{}") // cannot happen
	}
	head = head[:len(head)-1]
	if len(head) > 1 {
		head = append(head, ',') // large results have members
	}
	if out.size > 0 {
		out.size += int64(len(head) - 1)
	}
	out.stream = joined(head, out.stream, nil)
	return out
}

// joined returns head and then the rest of a stream, unless err ends it.
func joined(head []byte, rest io.ReadCloser, err error) io.ReadCloser {
	type both struct {
		io.Reader
		io.Closer
	}
	if err != nil {
		return both{io.MultiReader(bytes.NewReader(head), failing{err}), rest}
	}
	return both{io.MultiReader(bytes.NewReader(head), rest), rest}
}

// failing is a reader that fails.
type failing struct{ err error }

func (r failing) Read([]byte) (int, error) { return 0, r.err }
