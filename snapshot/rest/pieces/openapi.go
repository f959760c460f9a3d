package pieces

import (
	_ "embed" // for the description of the API
	"net/http"
)

//go:embed openapi.json
var openAPIDocument []byte

// OpenAPI returns the description of the API, an OpenAPI 3.1 document in JSON.
func OpenAPI() []byte { return append([]byte(nil), openAPIDocument...) }

func (h *Handler) openAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPIDocument)
	return nil
}
