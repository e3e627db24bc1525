package httpapi

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
	"github.com/mcpfleet/mcpfleet/internal/web"
)

// serveBackup answers with a backup of desired state, secrets included. The backup
// is complete before any of it is sent, so that a failure is answered as an error.
func (h *API) serveBackup(w *web.Response, r *http.Request) error {
	return h.read(w, r, func(st *desired.State) uint64 { return st.Index }, func(st *desired.State) error {
		var b bytes.Buffer
		if err := h.cfg.Backup(&b, st); err != nil {
			return err
		}
		header := w.Header()
		header.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="mcpfleet-%s-%d.backup"`, st.Cluster, st.Applied))
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		w.Begin(http.StatusOK, "application/octet-stream", int64(b.Len()))
		return w.WriteAll(b.Bytes())
	})
}

// serveSchema answers with the JSON Schema of fleet files.
func (h *API) serveSchema(w *web.Response, _ *http.Request) error {
	schema := fleetfile.Schema()
	w.Begin(http.StatusOK, "application/schema+json", int64(len(schema)))
	return w.WriteAll(schema)
}
