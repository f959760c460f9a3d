package trove

import "net/http"

// anyFlavor is the flavor in the list.
const anyFlavor = "any"

type flavorView struct {
	ID     string   `json:"id"`
	TextID string   `json:"str_id"`
	Name   string   `json:"name"`
	RAM    int      `json:"ram"`
	Links  []string `json:"links"`
}

func newFlavorView(id string) flavorView {
	return flavorView{ID: id, TextID: id, Name: id, Links: []string{}}
}

// listFlavors serves GET flavors. A flavor has no meaning here, but clients will not create
// an instance from a backup without one.
func (h *Handler) listFlavors(r *request) (int, any, error) {
	if err := h.allow(r, "flavor:index", r.project); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"flavors": []flavorView{newFlavorView(anyFlavor)}}, nil
}

// showFlavor serves GET flavors/{id}: whichever is asked for, so that what is written for
// a cloud's flavors works.
func (h *Handler) showFlavor(r *request) (int, any, error) {
	if err := h.allow(r, "flavor:show", r.project); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"flavor": newFlavorView(clip(r.PathValue("id")))}, nil
}
