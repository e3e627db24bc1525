package interest

import (
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
	"github.com/mcpfleet/mcpfleet/internal/mcp"
)

const (
	// gather is how long news waits for the same from other replicas.
	gather = 20 * time.Millisecond
	// maxGathered bounds the news that waits.
	maxGathered = 10_000
)

// key identifies news that one notification can stand for.
type key struct {
	server      fleet.ServerName
	method, uri string
}

// delivery is news for one client.
type delivery struct {
	to *client
	n  fleet.News
}

func deliver(all []delivery) {
	for _, d := range all {
		d.to.on(d.n)
	}
}

// add takes in news. It returns what is to be delivered at once, because too much waits.
func (b *Board) add(news []fleet.News) (now []delivery) {
	for _, n := range news {
		if len(b.waiting) >= maxGathered {
			now = append(now, b.take()...)
		}
		k := key{n.Server, n.Method, uriOf(&n)}
		if b.waiting[k] = n; k.uri != "" {
			b.recent.Put(k, n)
		}
	}
	if b.flush == nil && len(b.waiting) > 0 {
		b.flush = time.AfterFunc(gather, b.pass)
	}
	return now
}

// pass passes the news that waits to the clients that want it. It takes the lock.
func (b *Board) pass() {
	b.mu.Lock()
	all := b.take()
	b.flush = nil
	b.mu.Unlock()
	deliver(all)
}

// take returns the news that waits, for the clients that want it.
func (b *Board) take() (all []delivery) {
	for k, n := range b.waiting {
		for c := range b.clients {
			if uris, wants := c.wants[k.server]; wants && (k.uri == "" || fleet.CoveringURI(uris, k.uri) != "") {
				all = append(all, delivery{c, n})
			}
		}
	}
	clear(b.waiting)
	return all
}

// missed returns the news for clients that may have missed any of some servers.
func (b *Board) missed(servers []fleet.ServerName) (all []delivery) {
	for c := range b.clients {
		if !c.told {
			continue
		}
		for _, server := range servers {
			uris, wants := c.wants[server]
			if !wants {
				continue
			}
			for _, method := range []string{mcp.MethodToolsListChanged, mcp.MethodPromptsListChanged, mcp.MethodResourcesListChanged} {
				all = append(all, delivery{c, fleet.News{Server: server, Method: method}})
			}
			for _, uri := range uris {
				if fleet.IsTaskURI(uri) {
					continue // its client asks for the status, too
				}
				all = append(all, delivery{c, fleet.News{Server: server, Method: mcp.MethodResourcesUpdated, Params: mcp.URIParams(uri)}})
			}
		}
	}
	return all
}

// uriOf returns the resource or the task that news is about, or "".
func uriOf(n *fleet.News) string {
	if n.Task != "" {
		return n.Task
	}
	if n.Method != mcp.MethodResourcesUpdated {
		return ""
	}
	uri, _, _ := mcp.Target(n.Method, n.Params) // "" if it names none
	return uri
}
