package httpapi

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/mcpfleet/mcpfleet/internal/desired"
	"github.com/mcpfleet/mcpfleet/internal/fleetfile"
)

// serveBackup answers with a backup of desired state, secrets included. It is
// made whole before any of it is sent: what cannot be made gives an error.
func (h *Handler) serveBackup(w *response, r *http.Request, _ string) {
	h.read(w, r, func(st *desired.State) uint64 { return st.Index }, func(st *desired.State) error {
		var b bytes.Buffer
		if err := h.cfg.Backup(&b, st); err != nil {
			return err
		}
		header := w.Header()
		header.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="mcpfleet-%s-%d.backup"`, st.Cluster, st.Applied))
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		w.headOf(http.StatusOK, "application/octet-stream", int64(b.Len()))
		_ = w.inPieces(b.Bytes())
		return nil
	})
}

// serveSchema answers with the JSON Schema of fleet files.
func (h *Handler) serveSchema(w *response, _ *http.Request, _ string) {
	schema := fleetfile.Schema()
	w.headOf(http.StatusOK, "application/schema+json", int64(len(schema)))
	_ = w.inPieces(schema)
}
