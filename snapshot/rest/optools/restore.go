package optools

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
)

// restoreTimeout is how long a restore may go on without writing anything before its
// transaction counts as timed out, in milliseconds.
const restoreTimeout = 120_000

// callbackField is the parameter with the URL of a callback.
const callbackField = "client_webhook_url"

// restoreDocument serves PUT /backups.
func (h *Handler) restoreDocument(rq *request) {
	var body struct {
		Callback *json.RawMessage `json:"client_webhook_url"`
	}
	// The body was found to be an object when it was read.
	_ = json.Unmarshal(rq.body, &body)
	callback := ""
	if body.Callback != nil && json.Unmarshal(*body.Callback, &callback) != nil {
		rq.fail(http.StatusBadRequest, callbackField+" must be a string")
		return
	}
	data := rq.body
	h.restore(rq, callback, func(context.Context) (docsource.Contents, error) {
		return docsource.Parse(data, docsource.ParseOptions{Aliases: map[string]string{
			"DB_COMPONENTS": h.options.Databases.Components,
			"DB_SESSIONS":   h.options.Databases.Sessions,
			"DB_SYSTEM":     h.options.Databases.System,
		}})
	})
}

// restoreBackup serves PUT /backups/{id}.
func (h *Handler) restoreBackup(rq *request) {
	values, ok := rq.fields(false, callbackField)
	if !ok {
		return
	}
	// The snapshot is read long after the request was answered.
	d, err := h.load(h.ctx, rq.PathValue("id"))
	switch {
	case closed(err) || h.ctx.Err() != nil:
		rq.fail(http.StatusInternalServerError, "server is closing/closed")
		return
	case errors.Is(err, snapshot.ErrNotFound):
		rq.fail(http.StatusBadRequest, "cannot restore, could not load backup doc.")
		return
	case err != nil:
		h.broken(rq, "read the backup", err)
		return
	}
	h.restore(rq, values[callbackField], func(context.Context) (docsource.Contents, error) { return d.backup, nil })
}

// restore answers a request for a restore, and starts it.
func (h *Handler) restore(rq *request, callback string, open func(context.Context) (docsource.Contents, error)) {
	skip, ok := h.skips(rq)
	if !ok {
		return
	}
	if !h.mayCall(callback) {
		rq.fail(http.StatusBadRequest, callbackField+" is not among the URLs that this server may call")
		return
	}
	h.mu.Lock()
	busy, shut := h.restoring, h.closed
	if !busy && !shut {
		h.restoring = true
	}
	h.mu.Unlock()
	if shut {
		rq.fail(http.StatusInternalServerError, "server is closing/closed")
		return
	}
	if busy {
		rq.fail(http.StatusBadRequest, "already_in_progress")
		return
	}
	step := int64(1)
	tx, err := h.txs.create(transaction{
		ID: newTransactionID(), Description: "restoring dbs from backup", SubType: "backup_restore",
		By: censor(rq.caller.Email), UUID: rq.caller.UUID, OnStep: &step, TotalSteps: &step,
		Callback: callback, Timeout: restoreTimeout,
	})
	if err != nil {
		h.restored()
		h.broken(rq, "record the restore", err)
		return
	}
	if !h.run(func() { h.carryOut(tx.ID, skip, open) }) {
		h.restored()
		h.finish(tx.ID, errors.New("the server is closing"))
		rq.fail(http.StatusInternalServerError, "server is closing/closed")
		return
	}
	rq.answer(http.StatusAccepted, map[string]string{
		"message": "in-progress", "url": h.url(rq.Request, "/ak/api/v1/webhooks/txs/"+tx.ID),
	})
}

// restored says that no restore is under way any more.
func (h *Handler) restored() {
	h.mu.Lock()
	h.restoring = false
	h.mu.Unlock()
}

// skips reads the lists of documents to skip.
func (h *Handler) skips(rq *request) (func(database, id string) bool, bool) {
	skip := map[[2]string]bool{}
	for _, list := range []struct{ parameter, database string }{
		{"skip_system", h.options.Databases.System},
		{"skip_components", h.options.Databases.Components},
	} {
		for _, text := range rq.URL.Query()[list.parameter] {
			ids, err := parseSkipList(text)
			if err != nil {
				rq.fail(http.StatusBadRequest, list.parameter+": "+err.Error())
				return nil, false
			}
			for _, id := range ids {
				skip[[2]string{list.database, id}] = true
			}
		}
	}
	return func(database, id string) bool { return skip[[2]string{database, id}] }, true
}

// errPanic is the error of a restore that panicked.
var errPanic = errors.New("optools: the restore panicked")

// carryOut is a restore, behind the request that asked for it.
func (h *Handler) carryOut(tx string, skip func(database, id string) bool, open func(context.Context) (docsource.Contents, error)) {
	err := func() (err error) {
		// The store and the hook are the caller's. Their panic ends the restore, as it would
		// end a request, and not the process.
		defer func() {
			if p := recover(); p != nil {
				h.log.Error("optools: a restore panicked", "transaction", tx, "panic", p, "stack", string(debug.Stack()))
				err = errPanic
			}
		}()
		from, err := open(h.ctx)
		if err != nil {
			return err
		}
		result, err := docsource.Restore(h.ctx, h.options.Store, from, docsource.RestoreOptions{
			Skip: skip, Progress: func(int64) { h.txs.touch(tx) },
		})
		h.log.Info("optools: restored", "transaction", tx, "written", result.Written, "skipped", result.Skipped, "error", err)
		if err == nil && h.options.AfterRestore != nil {
			err = h.options.AfterRestore(h.ctx)
		}
		return err
	}()
	h.restored()
	h.finish(tx, err)
}

// finish ends the transaction of a restore.
func (h *Handler) finish(tx string, err error) {
	edit := edit{Status: statusSuccess}
	if err != nil {
		h.log.Error("optools: restore failed", "transaction", tx, "error", err)
		edit = editError(restoreMessage(h.ctx, err))
	}
	if err := h.edit(tx, edit); err != nil {
		h.log.Error("optools: the end of a restore could not be recorded", "transaction", tx, "error", err)
	}
}

// restoreMessage says to a client why a restore failed. Errors of the store may hold what
// clients should not see, and are for the log.
func restoreMessage(ctx context.Context, err error) string {
	var database *docsource.DatabaseError
	switch {
	case ctx.Err() != nil:
		return "the restore was interrupted, the server is closing"
	case errors.Is(err, docsource.ErrUnknownDatabase), errors.Is(err, docsource.ErrDocument), errors.Is(err, docsource.ErrBackup):
		return "not everything was restored: " + err.Error()
	case errors.As(err, &database):
		return "not everything was restored: writing to database " + database.Database + " failed"
	}
	return "the restore failed"
}
