package trove

import (
	_ "embed"
	"encoding/json"
	"net/http"
)

//go:embed openapi.json
var openAPIDocument []byte

// OpenAPI returns the OpenAPI 3.1 document of the routes, as it is served. Its paths begin
// below Options.BasePath.
func OpenAPI() []byte { return append([]byte(nil), openAPIDocument...) }

func (h *Handler) openAPI(*request) (int, any, error) {
	return http.StatusOK, json.RawMessage(openAPIDocument), nil
}
