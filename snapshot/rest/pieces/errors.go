package pieces

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// A statusError is an error with the status that tells it.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func serverError(format string, args ...any) error {
	return &statusError{http.StatusInternalServerError, fmt.Sprintf(format, args...)}
}

// statusOf returns the status for an error. Pieces OS knows 505 for a server that is too old
// for what it finds, and 511 for one that is not signed in or cannot reach the storage.
func statusOf(err error) int {
	var status *statusError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &status):
		return status.code
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, repo.ErrFormat):
		return http.StatusHTTPVersionNotSupported
	case errors.Is(err, repo.ErrAuthentication), errors.Is(err, repo.ErrPermission), errors.Is(err, repo.ErrNoBucket),
		errors.Is(err, repo.ErrUnavailable):
		return http.StatusNetworkAuthenticationRequired
	}
	return http.StatusInternalServerError
}

// fail answers with an error, as text in one line.
func (h *Handler) fail(w http.ResponseWriter, err error) {
	http.Error(w, strings.Join(strings.Fields(err.Error()), " "), statusOf(err))
}

// answer sends a value as JSON.
func answer(w http.ResponseWriter, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	extend(w)
	w.Header().Set("Content-Type", "application/json")
	// That the client has gone is not for it to be told.
	_, _ = w.Write(append(data, '\n'))
	return nil
}

func noContent(w http.ResponseWriter) error {
	extend(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// writeTime is how long a client may take to accept what is sent to it.
const writeTime = 30 * time.Second

// patient takes the server's time limits off a request that waits for a job. Where there are
// none, or none that can be set, nothing needs to be done.
func patient(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
}

// extend gives the client time for the next write.
func extend(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
}

// readBody decodes the body of a request into v and reports whether there was one. Clients
// leave it out, or send null. What is not known is ignored: models grow.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request, v any) (bool, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.opts.MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return false, err
		}
		return false, badRequest("the body cannot be read: %v", err)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 || bytes.Equal(data, []byte("null")) {
		return false, nil
	}
	if data[0] != '{' {
		return false, badRequest("the body is not a JSON object")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, badRequest("the body cannot be used: %v", err)
	}
	return true, nil
}
