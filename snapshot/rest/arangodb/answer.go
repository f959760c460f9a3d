package arangodb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// Error numbers of the original.
const (
	numInternal         = 4
	numNotImplemented   = 9
	numBadParameter     = 10
	numFileNotFound     = 14
	numLockTimeout      = 18
	numShuttingDown     = 30
	numBadJSON          = 600
	numSuffix           = 601
	numDatabaseNotFound = 1228
	numBackupInternal   = 7001
	numRestoreInternal  = 7002
	numTopology         = 7003
	numNoSpace          = 7004
	numUploadFailed     = 7005
	numDownloadFailed   = 7006
	numNoSuchBackup     = 7007
	numRemoteConfig     = 7008
	numConflict         = 7011
)

// messages are the original's texts, to which a colon and what is known besides are added.
var messages = map[int]string{
	numInternal:        "internal error",
	numNotImplemented:  "not implemented",
	numBadParameter:    "bad parameter",
	numFileNotFound:    "file not found",
	numLockTimeout:     "lock timeout",
	numShuttingDown:    "shutdown in progress",
	numBadJSON:         "invalid JSON",
	numSuffix:          "superfluous suffices",
	numBackupInternal:  "internal hot backup error",
	numRestoreInternal: "internal hot restore error",
	numTopology:        "backup does not match this topology",
	numNoSpace:         "no space left on device",
	numUploadFailed:    "failed to upload hot backup set to remote target",
	numDownloadFailed:  "failed to download hot backup set from remote source",
	numNoSuchBackup:    "no such hot backup set can be found",
	numRemoteConfig:    "remote hotback repository configuration error",
	numConflict:        "hot backup conflict",
}

// An answer is the response to a request. result is left out of the envelope if it is nil; raw, if set,
// takes the envelope's place.
type answer struct {
	code    int
	result  any
	raw     any
	num     int
	message string
	header  http.Header
}

// success is the envelope of a good answer, failure that of any other.
type success struct {
	Error  bool `json:"error"`
	Code   int  `json:"code"`
	Result any  `json:"result,omitempty"`
}

type failure struct {
	Error        bool   `json:"error"`
	Code         int    `json:"code"`
	ErrorNum     int    `json:"errorNum"`
	ErrorMessage string `json:"errorMessage"`
}

func good(code int, result any) answer { return answer{code: code, result: result} }

// refuse makes an answer of an error number's text and what is known besides.
func refuse(code, num int, format string, args ...any) answer {
	message := messages[num]
	if detail := fmt.Sprintf(format, args...); message == "" {
		message = detail
	} else if detail != "" {
		message += ": " + detail
	}
	return answer{code: code, num: num, message: message}
}

// closing is the answer of a handler that is closed.
func closing() answer { return refuse(http.StatusServiceUnavailable, numShuttingDown, "") }

// writeTime is how long a client may take to accept an answer.
const writeTime = 30 * time.Second

// patient takes the server's time limits off a request that was read: a create may wait minutes for the lock.
// Where there are none, or none that can be set, nothing needs to be done.
func patient(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
}

func (a answer) write(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
	for key, values := range a.header {
		w.Header()[key] = values
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if a.code == http.StatusNoContent || a.raw == nil && a.result == nil && a.num == 0 && a.code == http.StatusAccepted {
		w.WriteHeader(a.code)
		return
	}
	var body any
	switch {
	case a.num != 0:
		body = failure{Error: true, Code: a.code, ErrorNum: a.num, ErrorMessage: a.message}
	case a.raw != nil:
		body = a.raw
	default:
		body = success{Code: a.code, Result: a.result}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(a.code)
	// The client may have gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(body)
}

// classes are what errors are answered with; the first that matches counts. A num of 0 stands for what the
// request fails with otherwise.
var classes = []struct {
	err       error
	code, num int
}{
	{snapshot.ErrNotFound, http.StatusNotFound, numNoSuchBackup},
	{snapshot.ErrBadID, http.StatusNotFound, numNoSuchBackup},
	{snapshot.ErrPartial, http.StatusBadRequest, numTopology},
	{snapshot.ErrUnknownSource, http.StatusBadRequest, numTopology},
	{lock.ErrTimeout, http.StatusRequestTimeout, numLockTimeout},
	{repo.ErrLocation, http.StatusBadRequest, numRemoteConfig},
	{transfer.ErrJobBusy, http.StatusConflict, numConflict},
	{snapshot.ErrBusy, http.StatusConflict, numConflict},
	{repo.ErrNoSpace, http.StatusInsufficientStorage, numNoSpace},
	{syscall.ENOSPC, http.StatusInsufficientStorage, numNoSpace},
	{snapshot.ErrClosed, http.StatusServiceUnavailable, numShuttingDown},
	{snapshot.ErrBadLabel, http.StatusBadRequest, numBadParameter},
	{repo.ErrUnavailable, http.StatusServiceUnavailable, 0},
	{context.Canceled, http.StatusServiceUnavailable, numShuttingDown},
}

// failed makes the answer for an error. num is the number for errors that have none of their own.
func failed(err error, num int) answer {
	for _, class := range classes {
		if errors.Is(err, class.err) {
			if class.num != 0 {
				num = class.num
			}
			return refuse(class.code, num, "%v", err)
		}
	}
	return refuse(http.StatusInternalServerError, num, "%v", err)
}

// kindNumber is the number for the error of a job of the past, by its kind; fallback is for all others.
func kindNumber(kind transfer.ErrorKind, fallback int) int {
	switch kind {
	case transfer.ErrorNotFound, transfer.ErrorBadID:
		return numNoSuchBackup
	case transfer.ErrorLocation, transfer.ErrorNoBucket:
		return numRemoteConfig
	case transfer.ErrorNoSpace:
		return numNoSpace
	}
	return fallback
}
