package bridge

import (
	"bytes"
	"sync"

	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

// maxTools bounds how many tools with mirrored parameters are known.
const maxTools = 10_000

// tools knows which parameters of which tools are mirrored into headers, from the
// results of tools/list. Its methods may be called at any time.
type tools struct {
	mu     sync.Mutex
	params map[string][]mcp.ParamHeader
}

// of returns the mirrored parameters of a tool.
func (t *tools) of(name string) []mcp.ParamHeader {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.params[name]
}

// learn takes the tools of one page of a result of tools/list. It returns why
// the annotations of tools are invalid, by the tools' names.
func (t *tools) learn(result []byte) map[string]error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.params) == 0 && !bytes.Contains(result, []byte("x-mcp-header")) {
		return nil
	}
	invalid := map[string]error{}
	_ = mcp.Elements(within(result, "tools"), func(raw []byte) bool {
		found, err := mcp.Fields(raw, "name", "inputSchema")
		if err != nil {
			return true
		}
		name, err := mcp.String(found[0])
		if err != nil {
			return true
		}
		params, err := mcp.ParamHeaders(found[1])
		delete(t.params, name)
		switch {
		case err != nil:
			invalid[name] = err
		case len(params) > 0 && len(t.params) < maxTools:
			if t.params == nil {
				t.params = map[string][]mcp.ParamHeader{}
			}
			t.params[name] = params
		}
		return true
	})
	return invalid
}
