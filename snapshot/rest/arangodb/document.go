package arangodb

import (
	"context"
	_ "embed"
	"encoding/json"
	"net/http"
)

//go:embed openapi.json
var openAPI []byte

// document serves the OpenAPI document.
func document(context.Context, *request) answer {
	return answer{code: http.StatusOK, raw: json.RawMessage(openAPI)}
}
