package agenttest

import (
	"encoding/json"
	"fmt"
)

// Era is the era of the protocol that an Echo speaks.
type Era uint8

// The eras. The zero value is the legacy one.
const (
	Legacy Era = iota
	// Modern refuses initialize, and every request without the _meta of the modern era.
	Modern
	// Both settles for one era with the first request that is not server/discover, as
	// serveStdio of the TypeScript SDK does.
	Both
)

const (
	modernVersion = "2026-07-28"
	missingMeta   = "Request is missing the required _meta envelope"
)

// settle handles what depends on the era, and reports false if the request has been
// answered.
func (r *echoRun) settle(m *message) bool {
	isModern := m.Params.Meta.Version != ""
	if m.Method == "server/discover" {
		return r.discover(m)
	}
	if m.ID == nil || r.Echo.Era == Legacy {
		return true
	}
	if !r.settled {
		r.settled, r.modern = true, r.Echo.Era == Modern || isModern
	}
	switch {
	case r.modern && m.Method == "initialize":
		r.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":[%q],"requested":%q}}}`,
			m.ID, modernVersion, m.Params.Version))
	case r.modern && (!isModern || m.Params.Meta.Capabilities == nil):
		r.refuse(m.ID, -32602, missingMeta)
	case r.modern && m.Method == "ping":
		r.refuse(m.ID, -32601, "method not found")
	default:
		return true
	}
	return false
}

// discover answers server/discover.
func (r *echoRun) discover(m *message) bool {
	r.Runtime.count("discovers of " + string(r.Launch.Replica))
	switch {
	case r.DieOfDiscover:
		r.exit <- 4
		<-r.ctx.Done()
	case r.IgnoreDiscover:
	case r.Echo.Era == Legacy:
		return true
	case m.Params.Meta.Capabilities == nil:
		r.refuse(m.ID, -32602, missingMeta)
	default:
		r.answer(m.ID, fmt.Sprintf(`{"resultType":"complete","supportedVersions":[%q],"capabilities":%s,`+
			`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"echo","version":"1"}},"ttlMs":60000,"cacheScope":"public"}`, modernVersion, r.capabilities()))
	}
	return false
}

func (r *echoRun) capabilities() string {
	if r.Lists {
		return `{"tools":{"listChanged":true},"resources":{"listChanged":true},"prompts":{"listChanged":true}}`
	}
	return `{"tools":{"listChanged":true}}`
}

// lists answers requests for lists other than that of the tools, and reports false for
// others.
func (r *echoRun) lists(m *message) bool {
	if !r.Lists {
		return false
	}
	var member string
	var elements []string
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.Method {
	case "resources/list":
		member, elements = "resources", append([]string{`{"uri":"echo://a","name":"a"}`}, r.resources...)
	case "resources/templates/list":
		if r.NoTemplates {
			r.refuse(m.ID, -32601, "method not found")
			return true
		}
		member, elements = "resourceTemplates", []string{`{"uriTemplate":"echo://{x}","name":"x"}`}
	case "prompts/list":
		member, elements = "prompts", []string{`{"name":"p"}`}
	default:
		return false
	}
	r.Runtime.count(m.Method + " of " + string(r.Launch.Replica))
	list := ""
	for i, e := range elements {
		if i > 0 {
			list += ","
		}
		list += e
	}
	answer := func() { r.answer(m.ID, fmt.Sprintf(`{%q:[%s]%s}`, member, list, r.hint())) }
	if r.SlowLists == 0 {
		answer()
		return true
	}
	r.work.Go(func() {
		if r.sleep(r.ctx, r.SlowLists) {
			answer()
		}
	})
	return true
}

// hint returns what every list of a modern server has.
func (r *echoRun) hint() string {
	if !r.modern {
		return ""
	}
	return `,"resultType":"complete","ttlMs":1000,"cacheScope":"private"`
}

// addResource adds a resource, and says that the list has changed.
func (r *echoRun) addResource(name string) {
	r.mu.Lock()
	r.resources = append(r.resources, fmt.Sprintf(`{"uri":%s,"name":%s}`, quote("echo://"+name), quote(name)))
	r.mu.Unlock()
	r.write(`{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`)
}

// modernMeta are the members of _meta that requests of the modern era have.
type modernMeta struct {
	Version      string          `json:"io.modelcontextprotocol/protocolVersion"`
	Capabilities json.RawMessage `json:"io.modelcontextprotocol/clientCapabilities"`
}
