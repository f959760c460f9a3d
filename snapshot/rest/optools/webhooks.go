package optools

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// edit changes a transaction, and sends its callback if that ended it.
func (h *Handler) edit(id string, e edit) error {
	tx, ended, err := h.txs.edit(id, e)
	if ended {
		h.callBack(tx)
	}
	return err
}

// getTransaction serves GET /webhooks/txs/{id}.
func (h *Handler) getTransaction(rq *request) {
	tx, ended, err := h.txs.get(rq.PathValue("id"))
	if ended {
		h.callBack(tx)
	}
	switch {
	case errors.Is(err, errNoTransaction):
		rq.missing()
	case err != nil:
		h.broken(rq, "read the transaction", err)
	case tx.SubType == "template":
		rq.answer(http.StatusOK, template{tx.show(), tx.Original, tx.Processed})
	default:
		rq.answer(http.StatusOK, tx.show())
	}
}

// listTransactions serves GET /webhooks.
func (h *Handler) listTransactions(rq *request) {
	query := rq.URL.Query()
	limit, ok1 := count(query.Get("limit"), 100)
	skip, ok2 := count(query.Get("skip"), 0)
	if !ok1 || !ok2 {
		rq.fail(http.StatusBadRequest, "limit and skip must be whole numbers, not negative")
		return
	}
	var statuses []string
	for _, s := range append(query["statuses"], query["statuses[]"]...) {
		statuses = append(statuses, strings.ToLower(s))
	}
	all := h.transactions()
	webhooks := []shown{}
	for _, tx := range all {
		if len(statuses) > 0 && !slices.Contains(statuses, tx.Status) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(webhooks) == limit {
			break
		}
		webhooks = append(webhooks, tx.show())
	}
	rq.answer(http.StatusOK, map[string]any{"matches": len(webhooks), "total": len(all), "webhooks": webhooks})
}

// transactions lists all transactions, and sends the callbacks of those that are found to have
// timed out.
func (h *Handler) transactions() []transaction {
	all, ended := h.txs.list()
	for _, tx := range ended {
		h.callBack(tx)
	}
	return all
}

// count reads a number that is not negative.
func count(text string, otherwise int) (int, bool) {
	if text == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0
}

// listTemplates serves GET /webhooks/templates.
func (h *Handler) listTemplates(rq *request) {
	templates := []template{}
	for _, tx := range h.transactions() {
		if tx.SubType == "template" {
			templates = append(templates, template{tx.show(), tx.Original, tx.Processed})
		}
	}
	rq.answer(http.StatusOK, map[string]any{"template_webhooks": templates})
}

// createTransaction serves POST /webhooks/txs.
func (h *Handler) createTransaction(rq *request) {
	var body struct {
		edit
		ID       string `json:"tx_id"`
		UUID     string `json:"uuid"`
		SubType  string `json:"sub_type"`
		Callback string `json:"client_webhook_url"`
	}
	if err := json.Unmarshal(rq.body, &body); err != nil {
		rq.fail(http.StatusBadRequest, "a field has the wrong type: "+fieldOf(err))
		return
	}
	if !h.mayCall(body.Callback) {
		rq.fail(http.StatusBadRequest, callbackField+" is not among the URLs that this server may call")
		return
	}
	if body.ID == "" {
		body.ID = newTransactionID()
	}
	tx := transaction{
		ID: body.ID, Description: body.Description, By: body.By, UUID: body.UUID, SubType: strings.ToLower(body.SubType),
		OnStep: body.OnStep, TotalSteps: body.TotalSteps, Timeout: body.Timeout, Callback: body.Callback, Channels: body.Channels,
	}
	if body.Message != "" {
		tx.Messages = []*string{&body.Message}
	}
	if given(body.Note) {
		tx.Notes = []json.RawMessage{body.Note}
	}
	if given(body.Original) {
		tx.Original = body.Original
	}
	tx, err := h.txs.create(tx)
	switch {
	case errors.Is(err, errTransactionBusy):
		rq.answer(http.StatusConflict, failure{
			Code: http.StatusConflict, Error: "conflict", Reason: "Document update conflict.",
		})
	case errors.Is(err, errTransactionID), errors.Is(err, errTooMany):
		rq.fail(http.StatusBadRequest, strings.TrimPrefix(err.Error(), "optools: "))
	case err != nil:
		h.broken(rq, "store the transaction", err)
	default:
		// The original answers with the transaction, or says ok: both are in this.
		answer, ok := tx.show(), "ok"
		answer.Message = &ok
		rq.answer(http.StatusOK, answer)
	}
}

// fieldOf says which field of a body has the wrong type.
func fieldOf(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return wrong.Field
	}
	return "unknown"
}

// editTransaction serves PUT /webhooks/txs/{id}.
func (h *Handler) editTransaction(rq *request) {
	var e edit
	if err := json.Unmarshal(rq.body, &e); err != nil {
		rq.fail(http.StatusBadRequest, "a field has the wrong type: "+fieldOf(err))
		return
	}
	e.Status = strings.ToLower(e.Status)
	if !slices.Contains(validStatus, e.Status) {
		rq.answer(http.StatusBadRequest, failure{
			Code: http.StatusBadRequest, Valid: validStatus,
			Error: fmt.Sprintf("not a valid value for status: %q", e.Status),
		})
		return
	}
	id := rq.PathValue("id")
	err := h.edit(id, e)
	switch {
	case errors.Is(err, errNoTransaction):
		rq.missing()
	case errors.Is(err, errTooMany):
		rq.fail(http.StatusBadRequest, strings.TrimPrefix(err.Error(), "optools: "))
	case err != nil:
		h.broken(rq, "store the transaction", err)
	default:
		rq.answer(http.StatusOK, map[string]string{"message": "ok", "tx_id": id})
	}
}

// ignoreCallback serves POST /webhooks/txs/{id}.
func (h *Handler) ignoreCallback(rq *request) {
	rq.answer(http.StatusOK, map[string]string{"message": "ok"})
}
