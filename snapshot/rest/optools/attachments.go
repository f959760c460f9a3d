package optools

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// names writes attachments' names that the repository cannot have: as digits and small
// letters, behind an underscore, which no name begins with that a client may give.
var names = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// storedName returns under which name an attachment is kept.
func storedName(name string) string {
	if repo.CheckAttachmentName(name) == nil {
		return name
	}
	return "_" + names.EncodeToString([]byte(name))
}

// shownName returns the name of an attachment that is kept under another one.
func shownName(kept string) string {
	encoded, ok := strings.CutPrefix(kept, "_")
	if !ok {
		return kept
	}
	name, err := names.DecodeString(encoded)
	if err != nil {
		return kept
	}
	return string(name)
}

// attach serves PUT /backups/{id}/attachments/{name}.
func (h *Handler) attach(rq *request) {
	id, name := rq.PathValue("id"), rq.PathValue("name")
	values, ok := rq.fields(true, "attachment")
	if !ok {
		return
	}
	if strings.HasPrefix(name, "_") {
		rq.answer(http.StatusBadRequest, failure{
			Code: http.StatusBadRequest, Error: "bad_request",
			Reason: fmt.Sprintf("Attachment name '%s' starts with prohibited character '_'", name),
		})
		return
	}
	if _, ok := parseID(id); !ok {
		rq.noBackup()
		return
	}
	err := h.engine.Attach(rq.Context(), id, storedName(name), strings.NewReader(values["attachment"]))
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		rq.noBackup()
	case errors.Is(err, repo.ErrBadAttachmentName), errors.Is(err, repo.ErrAttachmentSize):
		rq.fail(http.StatusBadRequest, "the attachment is too large, or has too long a name")
	case closed(err):
		rq.fail(http.StatusInternalServerError, "server is closing/closed")
	case err != nil:
		h.broken(rq, "store the attachment", err)
	default:
		rq.answer(http.StatusOK, map[string]string{"message": "ok", "att_name": name})
	}
}

func (rq *request) noBackup() {
	rq.fail(http.StatusBadRequest, "cannot append. error getting existing backup doc")
}

// attachments returns what is attached to a backup.
func (h *Handler) attachments(ctx context.Context, id string) (map[string][]byte, error) {
	all := map[string][]byte{}
	for a, err := range h.engine.Attachments(ctx, id) {
		if err != nil {
			return nil, err
		}
		r, err := h.engine.OpenAttachment(ctx, id, a.Name)
		if errors.Is(err, repo.ErrNoAttachment) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		all[shownName(a.Name)] = data
	}
	return all, nil
}
