package trove

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// listBackups serves GET backups.
func (h *Handler) listBackups(r *request) (int, any, error) {
	query := r.URL.Query()
	project, all := r.project, isTrue(query.Get("all_projects"))
	rule := "backup:index"
	if all || query.Get("project_id") != "" {
		rule += allProjects
		project = query.Get("project_id")
	}
	if err := h.allow(r, rule, project); err != nil {
		return 0, nil, err
	}
	store, err := h.datastoreFilter(query.Get("datastore"))
	if err != nil {
		return 0, nil, err
	}
	instance := query.Get("instance_id")
	return h.page(r, query, func(b *record) bool {
		return (project == "" || b.Project == project) && (instance == "" || strings.EqualFold(b.Instance, instance)) && store(b)
	})
}

// listInstanceBackups serves GET instances/{id}/backups.
func (h *Handler) listInstanceBackups(r *request) (int, any, error) {
	if err := h.allow(r, "instance:backups", r.project); err != nil {
		return 0, nil, err
	}
	id := r.PathValue("id")
	return h.page(r, r.URL.Query(), func(b *record) bool {
		return strings.EqualFold(b.Instance, id) && (r.caller.Admin || b.Project == r.project)
	})
}

// page answers with a page of what is picked.
func (h *Handler) page(r *request, query url.Values, wanted func(*record) bool) (int, any, error) {
	limit, err := number(query, "limit", h.opts.PageSize)
	if err != nil {
		return 0, nil, err
	}
	if limit == 0 {
		limit = h.opts.PageSize
	}
	marker, err := number(query, "marker", 0)
	if err != nil {
		return 0, nil, err
	}
	if err := h.sync(r.Context()); err != nil {
		return 0, nil, err
	}
	found := h.pick(wanted)
	found = found[min(marker, len(found)):]
	body := struct {
		Backups []backupView        `json:"backups"`
		Links   []map[string]string `json:"links,omitempty"`
	}{Backups: []backupView{}}
	if len(found) > limit {
		found = found[:limit]
		query.Set("limit", strconv.Itoa(limit))
		query.Set("marker", strconv.Itoa(marker+limit))
		body.Links = []map[string]string{{"rel": "next", "href": "https://" + r.Host + r.URL.EscapedPath() + "?" + query.Encode()}}
	}
	for i := range found {
		body.Backups = append(body.Backups, found[i].view())
	}
	return http.StatusOK, body, nil
}

// maxNumber bounds limit and marker, so that their sum is a number too.
const maxNumber = 1 << 30

// number returns a whole number from a query.
func number(query url.Values, key string, otherwise int) (int, error) {
	text := query.Get(key)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxNumber {
		return 0, fail(http.StatusBadRequest, "%s must be a number from 0 to %d, and is %.40q.", key, maxNumber, text)
	}
	return n, nil
}

// isTrue reads a boolean as OpenStack's services do.
func isTrue(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "1", "t", "true", "on", "y", "yes":
		return true
	}
	return false
}

// datastoreFilter picks the backups of a datastore, by its ID or name.
func (h *Handler) datastoreFilter(ref string) (func(*record) bool, error) {
	if ref == "" {
		return func(*record) bool { return true }, nil
	}
	for _, d := range h.datastores() {
		if d.ID == ref || d.Name == ref {
			return func(b *record) bool { return b.Datastore.Name == d.Name }, nil
		}
	}
	return nil, fail(http.StatusNotFound, "Datastore '%.255s' cannot be found.", ref)
}

// datastores lists all that are known.
func (h *Handler) datastores() []Datastore {
	out := append([]Datastore(nil), h.opts.Datastores...)
	for i := range h.opts.Instances {
		if d := h.opts.Instances[i].Datastore; d.known() {
			out = append(out, d)
		}
	}
	return out
}

// showBackup serves GET backups/{id}.
func (h *Handler) showBackup(r *request) (int, any, error) {
	if err := h.sync(r.Context()); err != nil {
		return 0, nil, err
	}
	e, err := h.find(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	b := h.read(e)
	if err := h.allow(r, "backup:show", b.Project); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"backup": b.view()}, nil
}
