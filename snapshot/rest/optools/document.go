package optools

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
)

// head are the fields of a backup's document that stand before its databases.
type head struct {
	ID       string          `json:"id"`
	Format   string          `json:"backup_version"`
	Versions json.RawMessage `json:"ibp_versions"`
	Count    int64           `json:"doc_count"`
}

// tail are those that stand behind them.
type tail struct {
	InProgress bool   `json:"in_progress"`
	Type       string `json:"type"`
	Start      int64  `json:"start_timestamp"`
	End        int64  `json:"end_timestamp"`
	// Elapsed is 0 until the end, and then text.
	Elapsed any    `json:"elapsed"`
	Error   string `json:"error,omitempty"`
}

// databaseHead are the fields of a database that stand before its documents.
type databaseHead struct {
	Start    int64   `json:"start_timestamp"`
	Finish   int64   `json:"finish_timestamp"`
	Elapsed  string  `json:"elapsed"`
	Sequence *string `json:"last_sequence"`
}

// getBackup serves GET /backups/{id}.
func (h *Handler) getBackup(rq *request) {
	id := rq.PathValue("id")
	b := h.started(id)
	if b != nil && b.running() {
		h.sendUnfinished(rq, b, nil)
		return
	}
	d, err := h.load(rq.Context(), id)
	switch {
	case err == nil:
		h.sendDocument(rq, d)
	case errors.Is(err, snapshot.ErrNotFound) && b != nil && b.job.Err() != nil:
		h.sendUnfinished(rq, b, b.job.Err())
	case errors.Is(err, snapshot.ErrNotFound):
		rq.missing()
	default:
		h.broken(rq, "read the backup", err)
	}
}

// stored is a complete backup.
type stored struct {
	snapshot *snapshot.Snapshot
	start    time.Time
	backup   *docsource.Backup
}

// load opens a complete backup. It fails with snapshot.ErrNotFound for all that is none.
func (h *Handler) load(ctx context.Context, id string) (*stored, error) {
	start, ok := parseID(id)
	if !ok {
		return nil, snapshot.ErrNotFound
	}
	s, err := h.engine.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	fsys, err := h.engine.OpenFS(ctx, id)
	if err != nil {
		return nil, err
	}
	sub, err := fs.Sub(fsys, h.options.Source)
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(sub, "."); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no source %s", snapshot.ErrNotFound, id, h.options.Source)
	}
	b, err := docsource.OpenBackup(sub)
	if err != nil {
		return nil, err
	}
	return &stored{s, start, b}, nil
}

// sendUnfinished sends the document of a backup that is being made, or that failed.
func (h *Handler) sendUnfinished(rq *request, b *backup, failed error) {
	versions, _ := json.Marshal(h.options.Versions)
	if h.options.Versions == nil {
		versions = []byte("{}")
	}
	doc := struct {
		head
		Databases struct{} `json:"dbs"`
		tail
		Attachments map[string][]byte `json:"_attachments,omitempty"`
	}{
		head: head{ID: b.id, Format: "1.0.0", Versions: versions},
		tail: tail{InProgress: failed == nil, Type: "athena_backup", Start: milliseconds(b.start), Elapsed: 0},
	}
	if failed != nil {
		status := b.job.Status()
		h.log.Error("optools: backup failed", "id", b.id, "error", failed)
		doc.End = milliseconds(status.Finished)
		doc.Elapsed = friendly(status.Finished.Sub(b.start))
		doc.Error = "the backup failed: " + string(status.ErrorKind)
	} else {
		var err error
		// The backup may end just now, and fail: then nothing is attached to it any more.
		if doc.Attachments, err = h.attachments(rq.Context(), b.id); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			h.broken(rq, "read the attachments", err)
			return
		}
	}
	rq.answer(http.StatusOK, doc)
}

// sendDocument sends a complete backup. The documents are read while they are sent; should
// that fail, the connection is broken off, so that nobody takes a part for the whole.
func (h *Handler) sendDocument(rq *request, d *stored) {
	attachments, err := h.attachments(rq.Context(), d.snapshot.ID)
	if err != nil {
		h.broken(rq, "read the attachments", err)
		return
	}
	rq.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	rq.w.Header().Set("Cache-Control", "no-store")
	rq.w.WriteHeader(http.StatusOK)
	if rq.Method == http.MethodHead {
		return
	}
	w := bufio.NewWriterSize(newPatientWriter(rq.w), 64<<10)
	err = d.write(w, attachments)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		if rq.Context().Err() == nil {
			h.log.Error("optools: a backup broke off while it was sent", "id", d.snapshot.ID, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// writeTime is how long a client may take to accept a part of a document.
const writeTime = 30 * time.Second

// patientWriter gives the client time for each part. The server's time limits, which are there for answers
// of a usual size, do not end it.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func newPatientWriter(w http.ResponseWriter) *patientWriter {
	control := http.NewResponseController(w)
	// Where there is no limit, or none that can be set, nothing needs to be done.
	_ = control.SetReadDeadline(time.Time{})
	return &patientWriter{w, control}
}

func (p *patientWriter) Write(data []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTime))
	return p.w.Write(data)
}

// write writes the document.
func (d *stored) write(w *bufio.Writer, attachments map[string][]byte) error {
	first := head{ID: d.snapshot.ID, Format: "1.0.0", Versions: json.RawMessage(d.snapshot.Metadata[versionsKey])}
	if !json.Valid(first.Versions) {
		first.Versions = json.RawMessage("{}")
	}
	took := d.snapshot.Stats.Duration
	last := tail{
		Type: "athena_backup", Start: milliseconds(d.start), End: milliseconds(d.start.Add(took)), Elapsed: friendly(took),
	}
	for _, db := range d.backup.Databases {
		first.Count += db.Documents
		if db.Error != "" {
			last.Error = joinText(last.Error, fmt.Sprintf("database %s could not be read and was left out", db.Name))
		}
	}
	if err := writeOpen(w, first); err != nil {
		return err
	}
	w.WriteString(`,"dbs":{`)
	comma := ""
	for _, db := range d.backup.Databases {
		if db.File == "" {
			continue
		}
		w.WriteString(comma)
		comma = ","
		if err := d.writeDatabase(w, db); err != nil {
			return err
		}
	}
	w.WriteString("},")
	rest, err := json.Marshal(last)
	if err != nil {
		return err
	}
	w.Write(rest[1 : len(rest)-1])
	if len(attachments) > 0 {
		text, err := json.Marshal(attachments)
		if err != nil {
			return err
		}
		w.WriteString(`,"_attachments":`)
		w.Write(text)
	}
	_, err = w.WriteString("}")
	return err
}

func joinText(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// writeOpen writes an object without its end.
func writeOpen(w *bufio.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text[:len(text)-1])
	return err
}

// writeDatabase writes a database under its name. In the snapshot its documents stand one on
// a line, and have no other newlines: with commas for those they are an array.
func (d *stored) writeDatabase(w *bufio.Writer, db docsource.DatabaseInfo) error {
	name, err := json.Marshal(db.Name)
	if err != nil {
		return err
	}
	w.Write(name)
	w.WriteByte(':')
	info := databaseHead{
		Start: milliseconds(db.Started), Finish: milliseconds(db.Finished), Elapsed: friendly(db.Finished.Sub(db.Started)),
	}
	if db.Sequence != "" {
		info.Sequence = &db.Sequence
	}
	if err := writeOpen(w, info); err != nil {
		return err
	}
	w.WriteString(`,"docs":[`)
	file, err := d.backup.Open(db.Name)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := writeLines(w, file); err != nil {
		return err
	}
	_, err = w.WriteString("]}")
	return err
}

// writeLines copies lines, with a comma for each newline but the last.
func writeLines(w *bufio.Writer, r io.Reader) error {
	buf := make([]byte, 64<<10)
	newline := false
	for {
		n, err := r.Read(buf)
		if part := buf[:n]; n > 0 {
			if newline {
				w.WriteByte(',')
			}
			if newline = part[n-1] == '\n'; newline {
				part = part[:n-1]
			}
			for i := bytes.IndexByte(part, '\n'); i >= 0; i = bytes.IndexByte(part, '\n') {
				part[i] = ','
			}
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
