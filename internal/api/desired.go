package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// ReadOptions are the options of reads of desired state. The zero value reads the
// current state from the leader.
type ReadOptions struct {
	// Stale reads the state that the controller itself knows, without a leader.
	Stale bool
	// Index waits for something newer than this index of an earlier answer,
	// for at most Wait. 0: do not wait.
	Index uint64
	Wait  time.Duration // 0: a minute; at most ten
}

func (o ReadOptions) query() url.Values {
	q := url.Values{}
	if o.Stale {
		q.Set("stale", "1")
	}
	if o.Index > 0 {
		q.Set("index", strconv.FormatUint(o.Index, 10))
		if o.Wait > 0 {
			q.Set("wait", o.Wait.String())
		}
	}
	return q
}

// WriteOptions are the options of writes. The zero value writes unconditionally.
type WriteOptions struct {
	IfMatch        string // an ETag of an earlier answer, or "*" for anything that is stored
	New            bool   // of PUT: nothing may be stored yet
	Retry          bool   // of PUT: also update to the revision that was rolled back last
	DryRun         bool   // write nothing, and return what would happen
	IdempotencyKey string // of restarts and rollbacks: requests with the same key take effect once
}

// List returns all servers with their specs.
func (c *Client) List(ctx context.Context, o ReadOptions) (Servers, error) {
	var out Servers
	err := c.get(ctx, withQuery("/api/v1/servers", o.query()), &out)
	return out, err
}

// GetServer returns one server.
func (c *Client) GetServer(ctx context.Context, name fleet.ServerName, o ReadOptions) (Server, error) {
	var out Server
	err := c.get(ctx, withQuery(serverRoute(name, ""), o.query()), &out)
	return out, err
}

// Revisions returns the kept revisions of a server, newest first.
func (c *Client) Revisions(ctx context.Context, name fleet.ServerName, o ReadOptions) (Revisions, error) {
	var out Revisions
	err := c.get(ctx, withQuery(serverRoute(name, "/revisions"), o.query()), &out)
	return out, err
}

// Apply replaces the whole set of servers by that of a fleet file. Servers that the
// file does not list are removed. The file is JSON without variables.
func (c *Client) Apply(ctx context.Context, file []byte, o WriteOptions) (Applied, error) {
	var out Applied
	status, err := c.write(ctx, http.MethodPut, "/api/v1/servers", file, o, &out)
	out.Status = status
	return out, err
}

// PutServer adds or replaces one server. The spec is JSON, as in a fleet file.
func (c *Client) PutServer(ctx context.Context, name fleet.ServerName, spec []byte, o WriteOptions) (Written, error) {
	return c.writeServer(ctx, http.MethodPut, serverRoute(name, ""), spec, o)
}

// Delete removes a server.
func (c *Client) Delete(ctx context.Context, name fleet.ServerName, o WriteOptions) (Written, error) {
	return c.writeServer(ctx, http.MethodDelete, serverRoute(name, ""), nil, o)
}

// Scale sets how many replicas of a server are wanted. 0 stops it. A server that
// scales by itself has floors instead.
func (c *Client) Scale(ctx context.Context, name fleet.ServerName, replicas int, o WriteOptions) (Written, error) {
	return c.writeServer(ctx, http.MethodPost, serverRoute(name, "/scale"), encode(ScaleRequest{replicas}), o)
}

// SetFloor asks for a least number of replicas of a server that scales by itself, for
// some time. 0 removes the floor.
func (c *Client) SetFloor(ctx context.Context, name fleet.ServerName, least int, ttl time.Duration, o WriteOptions) (Written, error) {
	body := FloorRequest{MinReplicas: least}
	if least != 0 {
		body.TTL = ttl.String()
	}
	return c.writeServer(ctx, http.MethodPost, serverRoute(name, "/scale"), encode(body), o)
}

// SetRollout pauses or resumes the rollout of a server: the action is one of the
// Rollout constants.
func (c *Client) SetRollout(ctx context.Context, name fleet.ServerName, action string, o WriteOptions) (Written, error) {
	return c.writeServer(ctx, http.MethodPost, serverRoute(name, "/rollout"), encode(RolloutRequest{action}), o)
}

// Restart replaces all replicas of a server by new ones of the same revision.
func (c *Client) Restart(ctx context.Context, name fleet.ServerName, o WriteOptions) (Written, error) {
	return c.writeServer(ctx, http.MethodPost, serverRoute(name, "/restart"), nil, o)
}

// Wake starts the replicas of a server that ended because nobody called it, as a
// waiting call does.
func (c *Client) Wake(ctx context.Context, name fleet.ServerName) error {
	_, err := c.write(ctx, http.MethodPost, serverRoute(name, "/wake"), nil, WriteOptions{}, new(Woken))
	return err
}

// Rollback returns a server to a kept revision. 0 is the newest kept one below the
// present.
func (c *Client) Rollback(ctx context.Context, name fleet.ServerName, rev fleet.Revision, o WriteOptions) (Written, error) {
	return c.writeServer(ctx, http.MethodPost, serverRoute(name, "/rollback"), encode(RollbackRequest{rev}), o)
}

// Drain moves all replicas off a node and places no new ones there. Replicas that
// are still there after the deadline are stopped. 0 means ten minutes.
func (c *Client) Drain(ctx context.Context, node fleet.NodeID, deadline time.Duration, o WriteOptions) (NodeWritten, error) {
	var body DrainRequest
	if deadline > 0 {
		body.Deadline = deadline.String()
	}
	return c.writeNode(ctx, node, "drain", encode(body), o)
}

// Cordon stops the placing of replicas on a node.
func (c *Client) Cordon(ctx context.Context, node fleet.NodeID, o WriteOptions) (NodeWritten, error) {
	return c.writeNode(ctx, node, "cordon", nil, o)
}

// Uncordon makes a cordoned or drained node an ordinary one again.
func (c *Client) Uncordon(ctx context.Context, node fleet.NodeID, o WriteOptions) (NodeWritten, error) {
	return c.writeNode(ctx, node, "uncordon", nil, o)
}

// Controllers returns the controllers of the cluster, as the one that answers knows
// them.
func (c *Client) Controllers(ctx context.Context) (Controllers, error) {
	var out Controllers
	err := c.get(ctx, "/api/v1/controllers", &out)
	return out, err
}

// RemoveController removes a controller, by name or id, from the cluster.
func (c *Client) RemoveController(ctx context.Context, name string) (Controllers, error) {
	var out Controllers
	_, err := c.write(ctx, http.MethodDelete, "/api/v1/controllers/"+url.PathEscape(name), nil, WriteOptions{}, &out)
	return out, err
}

// Transfer makes a controller, by name or id, the leader.
func (c *Client) Transfer(ctx context.Context, name string) (Controllers, error) {
	var out Controllers
	_, err := c.write(ctx, http.MethodPost, "/api/v1/controllers/"+url.PathEscape(name)+"/transfer", nil, WriteOptions{}, &out)
	return out, err
}

// Backup writes a backup of desired state to w, including secrets. With Stale it is
// that of the controller that answers, which may lack the last writes.
func (c *Client) Backup(ctx context.Context, w io.Writer, o ReadOptions) error {
	resp, err := c.do(ctx, http.MethodGet, withQuery("/api/v1/backup", o.query()), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errorOf(resp)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("copy the backup: %w", err)
	}
	return nil
}

func (c *Client) writeServer(ctx context.Context, method, path string, body []byte, o WriteOptions) (Written, error) {
	var out Written
	status, err := c.write(ctx, method, path, body, o, &out)
	out.Status = status
	return out, err
}

func (c *Client) writeNode(ctx context.Context, node fleet.NodeID, verb string, body []byte, o WriteOptions) (NodeWritten, error) {
	var out NodeWritten
	status, err := c.write(ctx, http.MethodPost, "/api/v1/nodes/"+url.PathEscape(string(node))+"/"+verb, body, o, &out)
	out.Status = status
	return out, err
}

// write sends a write and decodes its answer. If the answer is lost, or cannot be
// decoded, the outcome of the write is unknown.
func (c *Client) write(ctx context.Context, method, path string, body []byte, o WriteOptions, out any) (status int, err error) {
	header := http.Header{}
	if o.IfMatch != "" {
		header.Set("If-Match", quoteTag(o.IfMatch))
	}
	if o.New {
		header.Set("If-None-Match", "*")
	}
	if o.IdempotencyKey != "" {
		header.Set("Idempotency-Key", o.IdempotencyKey)
	}
	query := url.Values{}
	if o.DryRun {
		query.Set("dry_run", "1")
	}
	if o.Retry {
		query.Set("retry", "1")
	}
	path = withQuery(path, query)
	resp, err := c.send(ctx, method, path, body, header)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, errorOf(resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return resp.StatusCode, fmt.Errorf("decode %s %s: %w", method, path, err)
	}
	return resp.StatusCode, nil
}

func quoteTag(tag string) string {
	if tag == "*" {
		return tag
	}
	return `"` + tag + `"`
}

func serverRoute(name fleet.ServerName, verb string) string {
	return "/api/v1/servers/" + url.PathEscape(string(name)) + verb
}

func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("api: " + err.Error()) // numbers and strings
	}
	return b
}
