package trove

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// errorNames are the keys of Trove's error bodies.
var errorNames = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflict",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusUnprocessableEntity:   "unprocessableEntity",
	http.StatusInternalServerError:   "instanceFault",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

// apiError is an error that the caller is told.
type apiError struct {
	code    int
	message string
}

func (e *apiError) Error() string { return e.message }

func fail(code int, format string, args ...any) error {
	return &apiError{code, fmt.Sprintf(format, args...)}
}

// notFound is the error for something that is not there.
func notFound(id string) error {
	return fail(http.StatusNotFound, "Resource %s cannot be found.", clip(id))
}

// answerError writes an error as Trove does. The cause of what is not the caller's doing
// is logged and not sent.
func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, err error) {
	var known *apiError
	if !errors.As(err, &known) {
		h.opts.Logger.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		known = &apiError{http.StatusInternalServerError, "The server failed to do what was asked."}
		if unavailable(err) {
			known = &apiError{http.StatusServiceUnavailable, "The service is not available now. Try again later."}
		}
	}
	answer(w, known.code, map[string]any{
		errorNames[known.code]: map[string]any{"code": known.code, "message": known.message},
	})
}

// unavailable says whether an error may pass by itself.
func unavailable(err error) bool {
	for _, passing := range []error{
		snapshot.ErrClosed, transfer.ErrJobBusy, transfer.ErrJobsClosed, repo.ErrUnavailable, repo.ErrClosed, errClosed,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// answer writes a response. A nil body is none.
func answer(w http.ResponseWriter, code int, body any) {
	if body == nil {
		w.WriteHeader(code)
		return
	}
	data, err := json.Marshal(body)
	if err != nil {
		// Bodies are made of strings and numbers.
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(data)
}
